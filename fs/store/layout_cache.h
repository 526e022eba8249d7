// LayoutCache: prefix_layout() without building its JSON header again and again.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "fs/mutex.h"
#include "lib/format/prefix_file.h"

namespace kvfs::store {

// Threads: all calls from any thread.
// Owns:    at most kMost layouts of one geometry; which must outlive it.
// Blocks:  never.
// Errors:  none.
class LayoutCache {
 public:
  explicit LayoutCache(const Geometry& geometry) : geometry_(geometry) {}

  PrefixLayout get(std::uint32_t blocks) {
    {
      const MutexLock lock(mutex_);
      const auto at = layouts_.find(blocks);
      if (at != layouts_.end()) return at->second;
    }
    const PrefixLayout layout = prefix_layout(geometry_, blocks);
    const MutexLock lock(mutex_);
    if (layouts_.size() >= kMost) layouts_.clear();
    layouts_.emplace(blocks, layout);
    return layout;
  }

 private:
  static constexpr std::size_t kMost = 4096;
  const Geometry& geometry_;
  Mutex mutex_;  // innermost
  std::unordered_map<std::uint32_t, PrefixLayout> layouts_ GUARDED_BY(mutex_);
};

}  // namespace kvfs::store
