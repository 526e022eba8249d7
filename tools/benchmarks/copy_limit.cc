#include "tools/benchmarks/copy_limit.h"

#include <algorithm>
#include <cstring>

namespace kvfs::bench {

CopyLimit::CopyLimit(std::uint32_t threads) : threads_(threads) {
  for (std::uint32_t i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
}

CopyLimit::~CopyLimit() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
}

void CopyLimit::copy(std::byte* to, const std::byte* from, std::size_t bytes) {
  {
    const std::lock_guard lock(mutex_);
    to_ = to;
    from_ = from;
    bytes_ = bytes;
    pending_ = threads_ - 1;
    ++round_;
  }
  changed_.notify_all();
  copy_share(0);
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return pending_ == 0; });
}

void CopyLimit::copy_share(std::uint32_t index) const {
  const std::size_t begin = bytes_ * index / threads_;
  const std::size_t end = bytes_ * (index + 1) / threads_;
  std::memcpy(to_ + begin, from_ + begin, end - begin);
}

void CopyLimit::work(std::uint32_t index) {
  std::uint64_t seen = 0;
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || round_ != seen; });
      if (stopping_) return;
      seen = round_;
    }
    copy_share(index);
    const std::lock_guard lock(mutex_);
    if (--pending_ == 0) changed_.notify_all();
  }
}

std::uint32_t copy_threads() { return std::clamp(std::thread::hardware_concurrency(), 1U, 4U); }

}  // namespace kvfs::bench
