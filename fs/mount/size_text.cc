#include "fs/mount/size_text.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <span>

namespace kvfs::mount {
namespace {

struct Unit {
  std::string_view name;
  double factor;
};

constexpr std::array<Unit, 16> kSizeUnits{{
    {"", 1},
    {"B", 1},
    {"KiB", 0x1p10},
    {"MiB", 0x1p20},
    {"GiB", 0x1p30},
    {"TiB", 0x1p40},
    {"K", 0x1p10},
    {"M", 0x1p20},
    {"G", 0x1p30},
    {"T", 0x1p40},
    {"kB", 1e3},
    {"KB", 1e3},
    {"MB", 1e6},
    {"GB", 1e9},
    {"TB", 1e12},
    {"PiB", 0x1p50},
}};
constexpr std::array<Unit, 5> kDurationUnits{
    {{"", 1e3}, {"ms", 1}, {"s", 1e3}, {"min", 6e4}, {"h", 3.6e6}}};

// The value in the smallest unit, rounded to a whole number; nothing when the text is no such
// number.
std::optional<std::uint64_t> parse_with_units(std::string_view text, std::span<const Unit> units) {
  double number = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || !(number >= 0)) return std::nullopt;
  std::string_view unit(rest, static_cast<std::size_t>(text.data() + text.size() - rest));
  while (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
  for (const Unit& candidate : units) {
    if (candidate.name != unit) continue;
    const double value = std::round(number * candidate.factor);
    if (value >= 0x1p63) return std::nullopt;
    return static_cast<std::uint64_t>(value);
  }
  return std::nullopt;
}

}  // namespace

Result<std::uint64_t> parse_size(std::string_view text) {
  if (const auto bytes = parse_with_units(text, kSizeUnits)) return *bytes;
  return fail(
      Code::kInvalid,
      fmt::format(
          "'{}' is not a size: write a number with B, KiB, MiB, GiB, TiB (or kB, MB, GB, TB)",
          text));
}

std::string size_text(std::uint64_t bytes) {
  constexpr std::array<std::string_view, 5> kNames{"", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  while (bytes != 0 && bytes % 1024 == 0 && unit + 1 < kNames.size()) {
    bytes /= 1024;
    ++unit;
  }
  return fmt::format("{}{}", bytes, kNames[unit]);
}

Result<std::chrono::milliseconds> parse_duration(std::string_view text) {
  if (const auto ms = parse_with_units(text, kDurationUnits)) {
    return std::chrono::milliseconds(static_cast<std::int64_t>(*ms));
  }
  return fail(Code::kInvalid,
              fmt::format("'{}' is not a duration: write a number with ms, s, min or h", text));
}

std::string duration_text(std::chrono::milliseconds duration) {
  const auto ms = duration.count();
  if (ms % 3600000 == 0 && ms != 0) return fmt::format("{}h", ms / 3600000);
  if (ms % 60000 == 0 && ms != 0) return fmt::format("{}min", ms / 60000);
  if (ms % 1000 == 0) return fmt::format("{}s", ms / 1000);
  return fmt::format("{}ms", ms);
}

}  // namespace kvfs::mount
