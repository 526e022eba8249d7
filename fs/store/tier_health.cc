#include "fs/store/tier_health.h"

#include <spdlog/spdlog.h>

namespace kvfs::store {

bool TierHealth::may_try() {
  const MutexLock lock(mutex_);
  if (!out_) return true;
  const auto now = std::chrono::steady_clock::now();
  if (now < retry_at_) return false;
  retry_at_ = now + kRetryAfter;
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
  spdlog::warn("tier {} works again and is back in use", tier_);
}

bool TierHealth::failed(const std::string& why) {
  {
    const MutexLock lock(mutex_);
    ++errors_;
    if (out_ || ++failures_in_a_row_ < kFailuresInARow) return false;
    out_ = true;
    retry_at_ = std::chrono::steady_clock::now() + kRetryAfter;
  }
  spdlog::error(
      "tier {} failed {} times in a row ({}): it is out of use, what is stored stays in DRAM, and "
      "it "
      "is tried again every {} s; check the device and its file system",
      tier_, kFailuresInARow, why, kRetryAfter.count() / 1000);
  return true;
}

std::uint64_t TierHealth::errors() const {
  const MutexLock lock(mutex_);
  return errors_;
}

}  // namespace kvfs::store
