#include "tools/cli/load_or_recompute.h"

#include <gtest/gtest.h>

#include <array>

#include "tools/cli/kv_size.h"

namespace kvfs::cli {
namespace {

// 128 KiB a token.
const Geometry kModel{.model = "m", .groups = {{.layers = 32, .kv_heads = 8, .head_dim = 128}}};

bool pays(const PrefillCost& prefill, const LoadCost& load, const Geometry& model,
          std::uint64_t tokens) {
  return load.seconds(static_cast<double>(load_bytes(model, tokens))) <=
         prefill.seconds(static_cast<double>(tokens));
}

TEST(LoadOrRecompute, BreakEvenIsTheFirstBlockBoundaryWhereLoadingIsNoSlower) {
  const LoadCost load{.latency = 1e-3, .bytes_per_second = 5e9};
  for (const PrefillCost prefill : {PrefillCost{30e-6, 0}, PrefillCost{20e-6, 1e-9},
                                    PrefillCost{0, 1e-9}, PrefillCost{27e-6, 0}}) {
    const auto tokens = break_even(prefill, load, kModel);
    ASSERT_TRUE(tokens);
    EXPECT_EQ(*tokens % 16, 0U);
    EXPECT_TRUE(pays(prefill, load, kModel, *tokens));
    if (*tokens > 16) {
      EXPECT_FALSE(pays(prefill, load, kModel, *tokens - 16));
    }
  }
}

TEST(LoadOrRecompute, OfAWindowOnlyItsLastBlocksAreLoaded) {
  // Most layers have a window: before it is full loading costs more than computing, then less.
  const Geometry model{.model = "m",
                       .groups = {{.layers = 52, .kv_heads = 16, .head_dim = 128, .window = 1024},
                                  {.layers = 10, .kv_heads = 16, .head_dim = 128}}};
  const PrefillCost prefill{.per_token = 1.0 / 5000};
  const LoadCost load{.latency = 1e-3, .bytes_per_second = 2e9};
  const auto tokens = break_even(prefill, load, model);
  ASSERT_TRUE(tokens);
  EXPECT_GT(*tokens, 1024U);
  EXPECT_LT(*tokens, 4096U);
  for (std::uint64_t n = 16; n < 8192; n += 16) {
    EXPECT_EQ(pays(prefill, load, model, n), n >= *tokens) << n;
  }
}

TEST(LoadOrRecompute, ASlowLinkAgainstAConstantSpeedNeverPays) {
  EXPECT_FALSE(break_even({20e-6, 0}, {.latency = 0, .bytes_per_second = 5e9}, kModel));
}

TEST(LoadOrRecompute, OneBlockIsTheLeast) {
  EXPECT_EQ(break_even({1, 0}, {.latency = 0, .bytes_per_second = 5e9}, kModel), 16U);
}

TEST(LoadOrRecompute, FitsStayPhysical) {
  // Measurements that would fit best with a negative coefficient.
  const std::array falling{PrefillPoint{1000, 1}, PrefillPoint{2000, 1.5}};
  const PrefillCost linear = fit_prefill(falling).value();
  EXPECT_GT(linear.per_token, 0);
  EXPECT_EQ(linear.per_token_squared, 0);
  const std::array steep{PrefillPoint{1000, 1}, PrefillPoint{2000, 8}};
  const PrefillCost quadratic = fit_prefill(steep).value();
  EXPECT_EQ(quadratic.per_token, 0);
  EXPECT_GT(quadratic.per_token_squared, 0);
  const std::array same{PrefillPoint{1000, 1}, PrefillPoint{1000, 1}};
  EXPECT_DOUBLE_EQ(fit_prefill(same).value().per_token, 1e-3);
}

TEST(LoadOrRecompute, MeasurementsMustBePositive) {
  EXPECT_FALSE(fit_prefill({}));
  const std::array zero{PrefillPoint{0, 1}};
  EXPECT_FALSE(fit_prefill(zero));
}

}  // namespace
}  // namespace kvfs::cli
