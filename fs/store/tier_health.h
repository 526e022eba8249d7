// TierHealth: whether a tier is worth asking. A tier that fails again and again is left alone for a
// while, so that its blocks are misses at once instead of after a timeout each.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "fs/mutex.h"

namespace kvfs::store {

// States: in use -> out of use   kFailuresInARow errors in a row, by failed()
//         out of use -> in use   an attempt after the retry time that succeeds, by succeeded()
//
// Threads: all calls from any thread.
// Owns:    nothing.
// Blocks:  never. One log line at each change of state.
// Errors:  none.
class TierHealth {
 public:
  static constexpr std::uint32_t kFailuresInARow = 8;
  static constexpr std::chrono::milliseconds kRetryAfter{5000};

  explicit TierHealth(std::string tier) : tier_(std::move(tier)) {}

  // True while in use; out of use, true for one caller each time the retry time has passed.
  [[nodiscard]] bool may_try();
  [[nodiscard]] bool in_use() const;
  void succeeded();
  // True when this failure took the tier out of use.
  bool failed(const std::string& why);
  [[nodiscard]] std::uint64_t errors() const;

 private:
  const std::string tier_;
  mutable Mutex mutex_;  // innermost
  std::uint32_t failures_in_a_row_ GUARDED_BY(mutex_) = 0;
  std::uint64_t errors_ GUARDED_BY(mutex_) = 0;
  bool out_ GUARDED_BY(mutex_) = false;
  std::chrono::steady_clock::time_point retry_at_ GUARDED_BY(mutex_);
};

}  // namespace kvfs::store
