#include "tools/cli/units.h"

#include <gtest/gtest.h>

namespace kvfs::cli {
namespace {

TEST(Units, BytesAreParsedInBinaryAndDecimalUnits) {
  EXPECT_EQ(parse_bytes("4096").value(), 4096U);
  EXPECT_EQ(parse_bytes("10GiB").value(), 10ULL << 30);
  EXPECT_EQ(parse_bytes("10G").value(), 10ULL << 30);
  EXPECT_EQ(parse_bytes("1.5 KiB").value(), 1536U);
  EXPECT_EQ(parse_bytes("54.3GB").value(), 54'300'000'000U);
  EXPECT_EQ(parse_bytes("0").value(), 0U);
}

TEST(Units, WhatIsNoSizeIsNamed) {
  for (const char* text :
       {"", "GiB", "-1", "10 parsecs", "1e400", "nan", "99999999999GiB", "0x10"}) {
    const Result<std::uint64_t> bytes = parse_bytes(text);
    ASSERT_FALSE(bytes) << text;
    EXPECT_EQ(bytes.error().code, Code::kInvalid);
    EXPECT_NE(bytes.error().message.find(text), std::string::npos);
  }
}

TEST(Units, CountsOfTokensAreBinaryAndOthersDecimal) {
  EXPECT_EQ(parse_token_count("32k").value(), 32768U);
  EXPECT_EQ(parse_token_count("1M").value(), 1048576U);
  EXPECT_EQ(parse_count("8B").value(), 8e9);
  EXPECT_EQ(parse_count("1.5k").value(), 1500);
  EXPECT_FALSE(parse_count("8X"));
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
