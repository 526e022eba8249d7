// What the store counts while it runs; stats.h has the snapshots. Counters only grow, gauges go
// both ways; all are relaxed atomics: each is exact, a set of them need not be of one moment.
#pragma once

#include <atomic>
#include <cstdint>

#include "fs/histogram.h"

namespace kvfs::store {

class Counter {
 public:
  void add(std::uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  void sub(std::uint64_t n = 1) { value_.fetch_sub(n, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

class Largest {
 public:
  void observe(float value) {
    float before = value_.load(std::memory_order_relaxed);
    while (value > before &&
           !value_.compare_exchange_weak(before, value, std::memory_order_relaxed)) {
    }
  }
  [[nodiscard]] float get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<float> value_{0};
};

struct NamespaceMetrics {
  Counter gpu_blocks, dram_blocks, nvme_blocks, gpu_bytes, dram_bytes, nvme_bytes;  // gauges
  Counter dirty_bytes, pinned;                                                      // gauges
  Counter leases_open, reservations_open;                                           // gauges
  Counter hit_blocks, missed_blocks;
  Counter leases_total, commits_total, committed_blocks, lost_races, unpackable_blocks;
  Counter saturated_planes;
  Largest largest_error;
  Counter loaded_bytes, stored_bytes, promoted_bytes, written_back_bytes;
  Counter evicted_capacity, evicted_dirty, evicted_demoted, evicted_removed, evicted_corrupt,
      evicted_io_error, evicted_slab_moved, evicted_gpu;
};

struct StoreMetrics {
  Counter dirty_bytes, quarantined_bytes;  // gauges
  Counter promoted_blocks_queued;          // gauge: waiting for a read or being read
  // Of all namespaces, those that were removed too.
  Counter dram_bytes_in, dram_bytes_out, gpu_bytes_in, gpu_bytes_out, gpu_errors;
  Histogram lease_latency, reserve_latency, commit_latency, promote_latency, writeback_latency;
};

}  // namespace kvfs::store
