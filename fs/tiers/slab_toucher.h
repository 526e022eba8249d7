// Faulting slabs in: memory that was never touched costs its first user a second per few hundred
// MiB.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <thread>

#include "fs/mutex.h"
#include "fs/tiers/slab_file.h"
#include "lib/format/result.h"

namespace kvfs::tiers {

using TouchProgress = std::function<void(std::uint64_t done, std::uint64_t total)>;

// All slabs, on as many threads as the machine has processors. Returns the first error.
Status touch_all(std::span<const std::shared_ptr<SlabFile>> slabs, const TouchProgress& progress);

// One slab after the other behind the caller's back, for those made while the daemon runs. Whoever
// uses one before its turn only faults by himself.
//
// Threads: add() from any; one thread of its own.
// Owns:    a share of each slab that waits.
// Blocks:  only the destructor, for the piece being touched.
// Errors:  a slab that cannot be touched is logged: its users fault by themselves, which cannot
// fail,
//          as its memory is reserved.
class SlabToucher {
 public:
  SlabToucher();
  ~SlabToucher();
  SlabToucher(const SlabToucher&) = delete;
  SlabToucher& operator=(const SlabToucher&) = delete;
  void add(std::shared_ptr<SlabFile> slab);

 private:
  void run() EXCLUDES(mutex_);

  Mutex mutex_;
  CondVar changed_;
  std::deque<std::shared_ptr<SlabFile>> waiting_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace kvfs::tiers
