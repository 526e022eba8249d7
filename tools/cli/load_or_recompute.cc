#include "tools/cli/load_or_recompute.h"

#include "tools/cli/kv_size.h"

namespace kvfs::cli {
namespace {

constexpr std::uint64_t kLongestTokens = std::uint64_t{1} << 32;

}  // namespace

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
                                        const Geometry& geometry) {
  const auto pays = [&](std::uint64_t blocks) {
    const std::uint64_t tokens = blocks * geometry.block_tokens;
    return load.seconds(static_cast<double>(load_bytes(geometry, tokens))) <=
           prefill.seconds(static_cast<double>(tokens));
  };
  std::uint64_t loses = 0;
  std::uint64_t wins = kLongestTokens / geometry.block_tokens;
  if (!pays(wins)) return std::nullopt;
  // With every token computing grows at least as much as before, and loading at most (windows fill
  // up): what is once won stays won.
  while (wins - loses > 1) {
    const std::uint64_t middle = loses + (wins - loses) / 2;
    (pays(middle) ? wins : loses) = middle;
  }
  return wins * geometry.block_tokens;
}

}  // namespace kvfs::cli
