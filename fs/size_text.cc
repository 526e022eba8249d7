#include "fs/size_text.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>

namespace kvfs {
namespace {

using Factor = std::optional<double> (*)(std::string_view unit);

// K and KiB are 1024, KB is 1000.
std::optional<double> size_factor(std::string_view unit) {
  if (unit.empty() || unit == "b") return 1;
  const std::size_t power = std::string_view("kmgtpe").find(unit.front());
  if (power == std::string_view::npos) return std::nullopt;
  unit.remove_prefix(1);
  if (!unit.empty() && unit != "i" && unit != "ib" && unit != "b") return std::nullopt;
  return std::pow(unit == "b" ? 1000.0 : 1024.0, static_cast<double>(power + 1));
}

std::optional<double> duration_factor(std::string_view unit) {
  if (unit == "ms") return 1;
  if (unit.empty() || unit == "s") return 1e3;
  if (unit == "min") return 6e4;
  if (unit == "h") return 3.6e6;
  return std::nullopt;
}

// The value in the smallest unit, rounded to a whole number; nothing when the text is no such
// number.
std::optional<std::uint64_t> parse_with_unit(std::string_view text, Factor factor_of) {
  const std::optional<Quantity> quantity = parse_quantity(text);
  if (!quantity) return std::nullopt;
  const std::optional<double> factor = factor_of(quantity->unit);
  if (!factor) return std::nullopt;
  const double value = std::round(quantity->number * *factor);
  if (!(value < 0x1p63)) return std::nullopt;
  return static_cast<std::uint64_t>(value);
}

}  // namespace

std::optional<Quantity> parse_quantity(std::string_view text) {
  Quantity quantity{};
  const char* const end = text.data() + text.size();
  const auto [unit, error] = std::from_chars(text.data(), end, quantity.number);
  if (error != std::errc() || !std::isfinite(quantity.number) || quantity.number < 0)
    return std::nullopt;
  for (const char c : std::string_view(unit, static_cast<std::size_t>(end - unit))) {
    if (c != ' ') quantity.unit += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return quantity;
}

Result<std::uint64_t> parse_size(std::string_view text) {
  if (const auto bytes = parse_with_unit(text, size_factor)) return *bytes;
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
  if (const auto ms = parse_with_unit(text, duration_factor)) {
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

}  // namespace kvfs
