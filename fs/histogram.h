// Histogram of latencies: powers of two of microseconds. Threads: observe() and snapshot() from
// any, without locks. Lives in place; never allocates.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstdint>

namespace kvfs {

struct HistogramSnapshot {
  static constexpr std::size_t kBuckets =
      26;  // upper bounds 1 us, 2 us, ... 2^24 us (16.8 s), infinity
  std::array<std::uint64_t, kBuckets> counts{};  // not cumulative
  std::uint64_t count = 0;
  double sum_seconds = 0;
};

class Histogram {
 public:
  void observe(std::chrono::nanoseconds elapsed) {
    const auto ns = static_cast<std::uint64_t>(elapsed.count() < 0 ? 0 : elapsed.count());
    const std::uint64_t us = (ns + 999) / 1000;
    const auto bucket = static_cast<std::size_t>(us <= 1 ? 0 : std::bit_width(us - 1));
    counts_[bucket < kLast ? bucket : kLast].fetch_add(1, std::memory_order_relaxed);
    sum_ns_.fetch_add(ns, std::memory_order_relaxed);
  }
  [[nodiscard]] HistogramSnapshot snapshot() const {
    HistogramSnapshot out;
    for (std::size_t i = 0; i < out.counts.size(); ++i) {
      out.counts[i] = counts_[i].load(std::memory_order_relaxed);
      out.count += out.counts[i];
    }
    out.sum_seconds = static_cast<double>(sum_ns_.load(std::memory_order_relaxed)) * 1e-9;
    return out;
  }

 private:
  static constexpr std::size_t kLast = HistogramSnapshot::kBuckets - 1;
  std::array<std::atomic<std::uint64_t>, HistogramSnapshot::kBuckets> counts_{};
  std::atomic<std::uint64_t> sum_ns_{0};
};

}  // namespace kvfs
