#include "tools/cli/units.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

namespace kvfs::cli {
namespace {

constexpr std::array<char, 6> kPrefixes{'k', 'm', 'g', 't', 'p', 'e'};

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// Splits "1.5 GiB" into 1.5 and "gib".
struct Quantity {
  double value = 0;
  std::string unit;
};
Result<Quantity> split_quantity(std::string_view text, std::string_view example) {
  const auto bad = [&] {
    return fail(
        Code::kInvalid,
        fmt::format("'{}' is not a number with an optional unit: give one like {}", text, example));
  };
  Quantity out;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out.value);
  if (error != std::errc() || !std::isfinite(out.value) || out.value < 0) return bad();
  for (const char* at = end; at != text.data() + text.size(); ++at) {
    if (*at != ' ') out.unit += lower(*at);
  }
  return out;
}

int prefix_power(char c) {
  for (std::size_t i = 0; i < kPrefixes.size(); ++i) {
    if (kPrefixes[i] == c) return static_cast<int>(i) + 1;
  }
  return 0;
}

Result<double> parse_scaled(std::string_view text, double thousand) {
  constexpr std::string_view kExample = "32768, 32k or 8B";
  Result<Quantity> quantity = split_quantity(text, kExample);
  if (!quantity) return pass(std::move(quantity));
  const std::string& unit = quantity->unit;
  if (unit.empty()) return quantity->value;
  // "8B": billions.
  const int power = unit == "b" ? 3 : (unit.size() == 1 ? prefix_power(unit.front()) : 0);
  if (power == 0) {
    return fail(
        Code::kInvalid,
        fmt::format("'{}' has a unit that is not known: give a count like {}", text, kExample));
  }
  return quantity->value * std::pow(thousand, power);
}

}  // namespace

Result<std::uint64_t> parse_bytes(std::string_view text) {
  constexpr std::string_view kExample = "4096, 512MiB or 10GiB";
  Result<Quantity> quantity = split_quantity(text, kExample);
  if (!quantity) return pass(std::move(quantity));
  std::string_view unit = quantity->unit;
  double factor = 1;
  const int power = unit.empty() ? 0 : prefix_power(unit.front());
  if (power > 0) {
    unit.remove_prefix(1);
    factor = std::pow(unit == "b" ? 1000.0 : 1024.0, power);
    if (unit == "ib" || unit == "i") unit = "b";
  }
  if (!unit.empty() && unit != "b") {
    return fail(
        Code::kInvalid,
        fmt::format("'{}' has a unit that is not known: give a size like {}", text, kExample));
  }
  const double bytes = quantity->value * factor;
  if (bytes >= static_cast<double>(std::numeric_limits<std::uint64_t>::max())) {
    return fail(Code::kInvalid,
                fmt::format("'{}' does not fit 64 bits: give a smaller size", text));
  }
  return static_cast<std::uint64_t>(std::llround(bytes));
}

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
