#include "tools/cli/units.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "fs/size_text.h"

namespace kvfs::cli {
namespace {

// "b": billions. Nothing: there is no such unit.
std::optional<int> power_of_thousand(std::string_view unit) {
  if (unit.empty()) return 0;
  if (unit == "b") return 3;
  const std::size_t prefix = std::string_view("kmgtpe").find(unit);
  if (unit.size() != 1 || prefix == std::string_view::npos) return std::nullopt;
  return static_cast<int>(prefix) + 1;
}

Result<double> parse_scaled(std::string_view text, double thousand) {
  const std::optional<Quantity> quantity = parse_quantity(text);
  const std::optional<int> power = quantity ? power_of_thousand(quantity->unit) : std::nullopt;
  if (!power) {
    return fail(Code::kInvalid,
                fmt::format("'{}' is not a count: give one like 32768, 32k or 8B", text));
  }
  return quantity->number * std::pow(thousand, *power);
}

}  // namespace

Result<double> parse_count(std::string_view text) { return parse_scaled(text, 1000); }

Result<std::uint64_t> parse_token_count(std::string_view text) {
  Result<double> count = parse_scaled(text, 1024);
  if (!count) return pass(std::move(count));
  return static_cast<std::uint64_t>(std::llround(std::min(*count, 1e18)));
}

std::string human_bytes(std::uint64_t bytes) {
  constexpr std::array<std::string_view, 7> kUnits{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1023.95 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  if (unit == 0 || value == std::floor(value))
    return fmt::format("{:.0f} {}", value, kUnits.at(unit));
  return fmt::format("{:.1f} {}", value, kUnits.at(unit));
}

std::string human_rate(double bytes_per_second) {
  constexpr std::array<std::string_view, 5> kUnits{"B/s", "kB/s", "MB/s", "GB/s", "TB/s"};
  std::size_t unit = 0;
  while (bytes_per_second >= 999.95 && unit + 1 < kUnits.size()) {
    bytes_per_second /= 1000;
    ++unit;
  }
  return fmt::format("{:.{}f} {}", bytes_per_second, unit == 0 ? 0 : 1, kUnits.at(unit));
}

std::string human_count(std::uint64_t count) {
  std::string digits = std::to_string(count);
  for (std::size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, 1, ',');
  return digits;
}

std::string human_seconds(double seconds) {
  if (seconds < 1e-3) return fmt::format("{:.0f} us", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.1f} ms", seconds * 1e3);
  if (seconds < 120) return fmt::format("{:.1f} s", seconds);
  const auto minutes = static_cast<std::uint64_t>(seconds / 60);
  if (minutes < 120) return fmt::format("{} min", minutes);
  return fmt::format("{} h {} min", minutes / 60, minutes % 60);
}

std::string human_age(double seconds) {
  const auto whole = static_cast<std::uint64_t>(seconds < 0 ? 0 : seconds);
  if (whole < 120) return fmt::format("{} s", whole);
  if (whole < 120 * 60) return fmt::format("{} min", whole / 60);
  if (whole < std::uint64_t{48} * 3600) return fmt::format("{} h", whole / 3600);
  return fmt::format("{} d", whole / 86400);
}

std::string percent(double part, double whole) {
  if (whole <= 0) return "-";
  return fmt::format("{:.1f} %", 100 * part / whole);
}

}  // namespace kvfs::cli
