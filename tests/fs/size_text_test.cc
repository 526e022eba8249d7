#include "fs/size_text.h"

#include <gtest/gtest.h>

namespace kvfs {
namespace {

using std::chrono::milliseconds;

TEST(SizeText, ReadsBinaryAndDecimalUnits) {
  EXPECT_EQ(parse_size("8GiB").value(), 8ULL << 30);
  EXPECT_EQ(parse_size("512 MiB").value(), 512ULL << 20);
  EXPECT_EQ(parse_size("1.5TiB").value(), 3ULL << 39);
  EXPECT_EQ(parse_size("1.5 KiB").value(), 1536U);
  EXPECT_EQ(parse_size("64K").value(), 65536U);
  EXPECT_EQ(parse_size("54.3GB").value(), 54'300'000'000U);
  EXPECT_EQ(parse_size("10GB").value(), 10'000'000'000U);
  EXPECT_EQ(parse_size("10gb").value(), 10'000'000'000U);
  EXPECT_EQ(parse_size("8gib").value(), 8ULL << 30);
  EXPECT_EQ(parse_size("2PB").value(), 2'000'000'000'000'000U);
  EXPECT_EQ(parse_size("0").value(), 0U);
  EXPECT_EQ(parse_size("4097").value(), 4097U);
}

TEST(SizeText, RefusesWhatIsNoSize) {
  for (const char* text :
       {"", "GiB", "8 gigs", "-1", "1e400", "nan", "9000000TiB", "8GiB8", "inf", "0x10"}) {
    const auto parsed = parse_size(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().code, Code::kInvalid);
    EXPECT_NE(parsed.error().message.find(std::string("'") + text + "'"), std::string::npos)
        << parsed.error().message;
  }
}

TEST(SizeText, WritesWhatItReads) {
  for (const std::uint64_t bytes :
       {0ULL, 1ULL, 4097ULL, 1ULL << 20, 1536ULL << 20, 8ULL << 30, 3ULL << 39}) {
    EXPECT_EQ(parse_size(size_text(bytes)).value(), bytes) << size_text(bytes);
  }
  EXPECT_EQ(size_text(8ULL << 30), "8GiB");
  EXPECT_EQ(size_text(1536ULL << 20), "1536MiB");
}

TEST(DurationText, ReadsUnits) {
  EXPECT_EQ(parse_duration("250ms").value(), milliseconds(250));
  EXPECT_EQ(parse_duration("1.5s").value(), milliseconds(1500));
  EXPECT_EQ(parse_duration("2").value(), milliseconds(2000));
  EXPECT_EQ(parse_duration("5min").value(), milliseconds(300000));
  EXPECT_EQ(parse_duration("1h").value(), milliseconds(3600000));
  EXPECT_FALSE(parse_duration("2 days"));
  EXPECT_FALSE(parse_duration("soon"));
}

TEST(DurationText, WritesWhatItReads) {
  for (const int ms : {0, 1, 250, 1000, 1500, 60000, 90000, 3600000}) {
    EXPECT_EQ(parse_duration(duration_text(milliseconds(ms))).value(), milliseconds(ms));
  }
}

}  // namespace
}  // namespace kvfs
