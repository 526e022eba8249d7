// Sizes and durations as people write them, to kvfs and to kvfsd.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "lib/format/result.h"

namespace kvfs {

// "1.5 GiB" as 1.5 and "gib": the unit in lower case, without blanks.
struct Quantity {
  double number;  // finite, not negative
  std::string unit;
};
// Nothing: the text does not begin with such a number.
std::optional<Quantity> parse_quantity(std::string_view text);

// "8GiB", "512 MiB", "1.5TiB", "64K" (= KiB), "10GB" (= 10^10), "4096"; the case is of no matter.
// kInvalid names what is allowed.
Result<std::uint64_t> parse_size(std::string_view text);
// The shortest exact form in binary units: "8GiB", "1536MiB", "4097".
std::string size_text(std::uint64_t bytes);

// "250ms", "2s", "1.5s", "5min", "1h"; a bare number is seconds.
Result<std::chrono::milliseconds> parse_duration(std::string_view text);
std::string duration_text(std::chrono::milliseconds duration);

}  // namespace kvfs
