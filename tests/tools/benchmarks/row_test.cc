#include "tools/benchmarks/row.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace kvfs::bench {
namespace {

TEST(Row, ASpeedIsThatOfTheRoundWithTheMedianRatio) {
  // The machine was slow in the second round, for both alike.
  const Row row = speed_row("x", "GB/s", {{9, 10}, {1.6, 2}, {10, 10}}, 0.9);
  EXPECT_DOUBLE_EQ(row.value, 9);
  EXPECT_DOUBLE_EQ(row.limit, 10);
  EXPECT_DOUBLE_EQ(row.ratio, 0.9);
  EXPECT_TRUE(row.met);
  EXPECT_FALSE(speed_row("x", "GB/s", {{8.9, 10}}, 0.9).met);
}

TEST(Row, ACostIsMetBelowItsTarget) {
  EXPECT_TRUE(cost_row("x", "us", 50, 10, 50).met);
  EXPECT_FALSE(cost_row("x", "us", 50.1, 10, 50).met);
  EXPECT_DOUBLE_EQ(cost_row("x", "us", 50, 10, 50).ratio, 0.2);
}

TEST(Row, WithoutATargetNothingIsMissed) {
  EXPECT_TRUE(speed_row("x", "GB/s", {{1, 10}}, 0).met);
  EXPECT_TRUE(cost_row("x", "us", 50, 10, 0).met);
}

TEST(Row, ALineIsOneJsonObject) {
  const nlohmann::json line = nlohmann::json::parse(to_line(cost_row("match", "us", 23.5, 12, 50)));
  EXPECT_EQ(line, (nlohmann::json{{"bench", "match"},
                                  {"value", 23.5},
                                  {"unit", "us"},
                                  {"limit", 12.0},
                                  {"ratio", 0.5106},
                                  {"target", 50.0},
                                  {"met", true}}));
  EXPECT_EQ(to_line({}).find('\n'), std::string::npos);
  Row real;
  real.data = "real";
  EXPECT_EQ(nlohmann::json::parse(to_line(real)).at("data"), "real");
}

TEST(Row, Quantiles) {
  EXPECT_EQ(median({3, 1, 2}), 2);
  EXPECT_EQ(quantile({5, 1, 4, 2, 3}, 0), 1);
  EXPECT_EQ(quantile({5, 1, 4, 2, 3}, 1), 5);
  EXPECT_EQ(quantile({}, 0.5), 0);
}

}  // namespace
}  // namespace kvfs::bench
