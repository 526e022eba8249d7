#include "tools/cli/load_or_recompute.h"

#include <algorithm>
#include <cmath>

namespace kvfs::cli {

Result<PrefillCost> fit_prefill(std::span<const PrefillPoint> points) {
  // Minimise sum (a x_i + b y_i - 1)^2 with x = n / t, y = n^2 / t.
  double xx = 0, xy = 0, yy = 0, x1 = 0, y1 = 0;
  for (const PrefillPoint& point : points) {
    if (!(point.tokens > 0) || !(point.seconds > 0)) {
      return fail(Code::kInvalid, "a prefill measurement must have tokens and seconds above 0");
    }
    const double x = point.tokens / point.seconds;
    const double y = point.tokens * x;
    xx += x * x;
    xy += x * y;
    yy += y * y;
    x1 += x;
    y1 += y;
  }
  if (points.empty()) return fail(Code::kInvalid, "no prefill measurement was given");
  const PrefillCost linear{.per_token = x1 / xx};
  const double determinant = xx * yy - xy * xy;
  if (determinant <= 1e-9 * xx * yy) return linear;  // one length only
  const double a = (x1 * yy - y1 * xy) / determinant;
  const double b = (y1 * xx - x1 * xy) / determinant;
  if (b < 0) return linear;
  if (a < 0) return PrefillCost{.per_token_squared = y1 / yy};
  return PrefillCost{.per_token = a, .per_token_squared = b};
}

PrefillCost prefill_of_model(double parameters, double layers, double attention_width,
                             double flops_per_second) {
  return {.per_token = 2 * parameters / flops_per_second,
          .per_token_squared = 2 * layers * attention_width / flops_per_second};
}

std::optional<std::uint64_t> break_even(const PrefillCost& prefill, const LoadCost& load,
                                        double bytes_per_token, std::uint32_t block_tokens) {
  // b n^2 + (a - c) n - latency >= 0 for the first time.
  const double gain = prefill.per_token - bytes_per_token / load.bytes_per_second;
  const double b = prefill.per_token_squared;
  double tokens = 0;
  if (b > 0) {
    tokens = (-gain + std::sqrt(gain * gain + 4 * b * load.latency)) / (2 * b);
  } else {
    if (gain <= 0) return std::nullopt;
    tokens = load.latency / gain;
  }
  if (!(tokens < std::pow(2.0, 40))) return std::nullopt;
  const double blocks = std::max(1.0, std::ceil(tokens / block_tokens));
  return static_cast<std::uint64_t>(blocks) * block_tokens;
}

}  // namespace kvfs::cli
