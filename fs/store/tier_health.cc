#include "fs/store/tier_health.h"

#include <spdlog/spdlog.h>

#include <utility>

namespace kvfs::store {

bool TierHealth::may_try() {
  const MutexLock lock(mutex_);
  if (!out_) return true;
  const auto now = std::chrono::steady_clock::now();
  if (now < retry_at_) return false;
  retry_at_ = now + kRetryAfter;
  attempting_ = true;
  return true;
}

bool TierHealth::progressed() {
  const MutexLock lock(mutex_);
  if (!out_ || !attempting_) return false;
  retry_at_ = {};
  return true;
}

bool TierHealth::in_use() const {
  const MutexLock lock(mutex_);
  return !out_;
}

void TierHealth::succeeded() {
  {
    const MutexLock lock(mutex_);
    failures_in_a_row_ = 0;
    if (!out_) return;
    out_ = false;
  }
  spdlog::warn("{} works again", what_);
}

bool TierHealth::failed(const std::string& why) {
  bool first = false;
  {
    const MutexLock lock(mutex_);
    attempting_ = false;
    if (!out_ && ++failures_in_a_row_ < kFailuresInARow) return false;
    first = !std::exchange(out_, true);
    retry_at_ = std::chrono::steady_clock::now() + kRetryAfter;
  }
  if (!first) return false;
  spdlog::error(
      "{} failed {} times in a row ({}): it is out of use, {}, and tried again every {} s; "
      "check the device and its file system",
      what_, kFailuresInARow, why, meanwhile_, kRetryAfter.count() / 1000);
  return true;
}

}  // namespace kvfs::store
