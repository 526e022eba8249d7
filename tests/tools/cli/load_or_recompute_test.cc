#include "tools/cli/load_or_recompute.h"

#include <gtest/gtest.h>

#include <array>

namespace kvfs::cli {
namespace {

constexpr double kTokenBytes = 131072;

TEST(LoadOrRecompute, BreakEvenIsTheFirstBlockBoundaryWhereLoadingIsNoSlower) {
  const LoadCost load{.latency = 1e-3, .bytes_per_second = 5e9};
  for (const PrefillCost prefill : {PrefillCost{30e-6, 0}, PrefillCost{20e-6, 1e-9},
                                    PrefillCost{0, 1e-9}, PrefillCost{27e-6, 0}}) {
    const auto tokens = break_even(prefill, load, kTokenBytes, 16);
    ASSERT_TRUE(tokens);
    EXPECT_EQ(*tokens % 16, 0U);
    const auto pays = [&](double n) {
      return load.seconds(n * kTokenBytes) <= prefill.seconds(n) * (1 + 1e-12);
    };
    EXPECT_TRUE(pays(static_cast<double>(*tokens)));
    if (*tokens > 16) {
      EXPECT_FALSE(pays(static_cast<double>(*tokens - 16)));
    }
  }
}

TEST(LoadOrRecompute, ASlowLinkAgainstAConstantSpeedNeverPays) {
  EXPECT_FALSE(break_even({20e-6, 0}, {.latency = 0, .bytes_per_second = 5e9}, kTokenBytes, 16));
}

TEST(LoadOrRecompute, OneBlockIsTheLeast) {
  EXPECT_EQ(break_even({1, 0}, {.latency = 0, .bytes_per_second = 5e9}, kTokenBytes, 16), 16U);
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
