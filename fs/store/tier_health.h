// TierHealth: whether a tier is worth asking. A tier that fails again and again is left alone for a
// while, so that whoever asks hears so at once instead of after a timeout each. Reading, writing
// and recording have one each: a disk may do the one and not the other.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "fs/mutex.h"

namespace kvfs::store {

// States: in use -> out of use   kFailuresInARow errors in a row, by failed(), over some time at
//                                least: what is under way at once fails at once
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

  // What is done, and what becomes of blocks while it fails: for the log; and how long it fails
  // before it is out of use.
  TierHealth(std::string what, std::string meanwhile, std::chrono::milliseconds at_least = {})
      : what_(std::move(what)), meanwhile_(std::move(meanwhile)), at_least_(at_least) {}

  // True while in use; out of use, true for one caller each time the retry time has passed.
  [[nodiscard]] bool may_try();
  [[nodiscard]] bool in_use() const;
  void succeeded();
  // A part of an attempt went well, and as much as is known nothing of it wrong: out of use, the
  // next attempt need not wait. True when that is so.
  bool progressed();
  // True when this failure took the tier out of use.
  bool failed(const std::string& why);

 private:
  const std::string what_;
  const std::string meanwhile_;
  const std::chrono::milliseconds at_least_;
  mutable Mutex mutex_;  // innermost
  std::uint32_t failures_in_a_row_ GUARDED_BY(mutex_) = 0;
  std::chrono::steady_clock::time_point failing_since_ GUARDED_BY(mutex_);  // the first of them
  bool out_ GUARDED_BY(mutex_) = false;
  bool attempting_ GUARDED_BY(mutex_) = false;  // while out of use
  std::chrono::steady_clock::time_point retry_at_ GUARDED_BY(mutex_);
};

}  // namespace kvfs::store
