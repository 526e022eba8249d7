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
  const auto now = std::chrono::steady_clock::now();
  bool first = false;
  std::uint32_t failures = 0;
  {
    const MutexLock lock(mutex_);
    attempting_ = false;
    failures = ++failures_in_a_row_;
    if (failures == 1) failing_since_ = now;
    if (!out_ && (failures < kFailuresInARow || now - failing_since_ < at_least_)) return false;
    first = !std::exchange(out_, true);
    retry_at_ = now + kRetryAfter;
  }
  if (!first) return false;
  spdlog::error(
      "{} failed {} times in a row ({}): it is out of use, {}, and tried again every {} s; "
      "check the device and its file system",
      what_, failures, why, meanwhile_, kRetryAfter.count() / 1000);
  return true;
}

}  // namespace kvfs::store
