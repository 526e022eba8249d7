#include "tools/benchmarks/row.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace kvfs::bench {

std::string to_line(const Row& row) {
  const std::string data = row.data.empty() ? "" : fmt::format(R"(, "data": "{}")", row.data);
  return fmt::format(
      R"({{"bench": "{}", "value": {:.6g}, "unit": "{}", "limit": {:.6g}, "ratio": {:.4g}, "target": {:.6g}, "met": {}{}}})",
      row.bench, row.value, row.unit, row.limit, row.ratio, row.target, row.met, data);
}

Row speed_row(std::string bench, std::string unit, std::vector<Round> rounds, double least_ratio) {
  const auto ratio = [](const Round& round) {
    return round.limit > 0 ? round.value / round.limit : 0;
  };
  std::ranges::sort(rounds, {}, ratio);
  const Round& middle = rounds[rounds.size() / 2];
  return {.bench = std::move(bench),
          .value = middle.value,
          .unit = std::move(unit),
          .limit = middle.limit,
          .ratio = ratio(middle),
          .target = least_ratio,
          .met = ratio(middle) >= least_ratio,
          .data = {}};
}

Row cost_row(std::string bench, std::string unit, double value, double limit, double most) {
  return {.bench = std::move(bench),
          .value = value,
          .unit = std::move(unit),
          .limit = limit,
          .ratio = value > 0 ? limit / value : 0,
          .target = most,
          .met = most == 0 || value <= most,
          .data = {}};
}

double quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  const auto at = static_cast<std::size_t>(std::floor(q * static_cast<double>(values.size() - 1)));
  std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(at));
  return values[at];
}

double median(std::vector<double> values) { return quantile(std::move(values), 0.5); }

}  // namespace kvfs::bench
