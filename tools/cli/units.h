// Numbers as people write and read them; sizes they write are parse_size's (fs/size_text.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "lib/format/result.h"

namespace kvfs::cli {

// "900", "1.5k", "8B": powers of 1000, as parameters and FLOPs are written.
Result<double> parse_count(std::string_view text);
// "32768", "32k", "1M": powers of 1024, as context lengths are written.
Result<std::uint64_t> parse_token_count(std::string_view text);

std::string human_bytes(std::uint64_t bytes);  // "1.5 GiB", "512 B"
std::string human_rate(
    double bytes_per_second);                  // "12.3 GB/s": decimal, as links and disks are sold
std::string human_count(std::uint64_t count);  // "1,234,567"
std::string human_seconds(double seconds);     // "56 us", "1.2 ms", "3.4 s", "2 h 5 min"
std::string human_age(double seconds);         // "12 s", "5 min", "3 h", "9 d"
std::string percent(double part, double whole);  // "97.3 %", "-" when whole is 0

}  // namespace kvfs::cli
