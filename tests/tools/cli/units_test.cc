#include "tools/cli/units.h"

#include <gtest/gtest.h>

namespace kvfs::cli {
namespace {

TEST(Units, CountsOfTokensAreBinaryAndOthersDecimal) {
  EXPECT_EQ(parse_token_count("32k").value(), 32768U);
  EXPECT_EQ(parse_token_count("1M").value(), 1048576U);
  EXPECT_EQ(parse_count("8B").value(), 8e9);
  EXPECT_EQ(parse_count("1.5k").value(), 1500);
  for (const char* text : {"8X", "8kB", "", "k", "-1", "inf"}) {
    const Result<double> count = parse_count(text);
    ASSERT_FALSE(count) << text;
    EXPECT_EQ(count.error().code, Code::kInvalid);
    EXPECT_NE(count.error().message.find(text), std::string::npos);
  }
}

TEST(Units, NumbersForPeople) {
  EXPECT_EQ(human_bytes(512), "512 B");
  EXPECT_EQ(human_bytes(2 << 20), "2 MiB");
  EXPECT_EQ(human_bytes(1536), "1.5 KiB");
  EXPECT_EQ(human_bytes((1ULL << 30) - 1), "1.0 GiB");  // not quite
  EXPECT_EQ(human_bytes(UINT64_MAX), "16 EiB");
  EXPECT_EQ(human_count(1234567), "1,234,567");
  EXPECT_EQ(human_count(999), "999");
  EXPECT_EQ(human_rate(54.3e9), "54.3 GB/s");
  EXPECT_EQ(human_seconds(56e-6), "56 us");
  EXPECT_EQ(human_seconds(0.0123), "12.3 ms");
  EXPECT_EQ(human_age(3 * 86400.0), "3 d");
  EXPECT_EQ(percent(1, 0), "-");
  EXPECT_EQ(percent(973, 1000), "97.3 %");
}

}  // namespace
}  // namespace kvfs::cli
