// Load a cached prefix, or compute it again? The arithmetic behind `kvfs plan`.
//
//   t_prefill(n) = a n + b n^2          a: per token, b: attention over all tokens before
//   t_load(n)    = latency + load_bytes(n) / bandwidth    load_bytes(): kv_size.h
//   break-even   = the smallest n (a multiple of block_tokens) with t_load(n) <= t_prefill(n)
//
// From a model's size: a forward pass costs 2 N + 2 L d n FLOPs per token at n tokens of context,
// where N is the number of (active) parameters, L the layers and d = heads * head_dim of the
// attention (Kaplan et al. 2020, "Scaling laws for neural language models", arXiv:2001.08361,
// section 2.1); so over a causal prefill a = 2 N / F and b = 2 L d / F at F FLOP/s. From measured
// points (n, t): least squares on the relative error, a and b >= 0.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "lib/format/geometry.h"
#include "lib/format/result.h"

namespace kvfs::cli {

struct PrefillCost {
  double per_token = 0;          // a, seconds
  double per_token_squared = 0;  // b, seconds
  [[nodiscard]] double seconds(double tokens) const {
    return per_token * tokens + per_token_squared * tokens * tokens;
  }
};

struct PrefillPoint {
  double tokens;
  double seconds;
};

// kInvalid: no points, or one that is not positive.
Result<PrefillCost> fit_prefill(std::span<const PrefillPoint> points);
// `attention_width` = heads * head_dim.
PrefillCost prefill_of_model(double parameters, double layers, double attention_width,
                             double flops_per_second);

struct LoadCost {
  double latency = 0;  // seconds from the lease to the first byte
  double bytes_per_second = 0;
  [[nodiscard]] double seconds(double bytes) const { return latency + bytes / bytes_per_second; }
};

// Tokens from which loading is at least as fast; nullopt: never (within 2^32 tokens).
std::optional<std::uint64_t> break_even(const PrefillCost& prefill, const LoadCost& load,
                                        const Geometry& geometry);

}  // namespace kvfs::cli
