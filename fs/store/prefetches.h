// Prefetches: what of a namespace is on its way into DRAM though nobody loads it yet.
#pragma once

#include <cstddef>
#include <memory>
#include <unordered_map>
#include <vector>

#include "fs/mutex.h"
#include "fs/store/lease_impl.h"
#include "fs/store/namespace_state.h"

namespace kvfs::store {

// A prefix that is prefetched is held until all of it is there: making room for one block must not
// take another. Blocks that another prefetch brings are left to it, and a prefix that goes on where
// another ends is made one with it: whoever asks again and again, for the same or for a little
// more each time, has one lease, and one waiter a block.
//
// Threads: all calls from any thread.
// Owns:    a lease for each prefix that is under way. Outlives its namespace with the last of them.
// Blocks:  never.
// Errors:  none: what has not come within a minute, or cannot come, is given up.
class Prefetches : public std::enable_shared_from_this<Prefetches> {
 public:
  void begin(std::shared_ptr<LeaseImpl> lease);

 private:
  struct Prefetch {
    std::shared_ptr<LeaseImpl> lease;
    std::vector<BlockOf> blocks;
    std::size_t waits = 0;
  };
  using PrefetchPtr = std::shared_ptr<Prefetch>;
  void end(Prefetch& prefetch);

  Mutex mutex_;  // not held with any other
  std::unordered_map<BlockOf, PrefetchPtr, BlockOfHash> under_way_ GUARDED_BY(mutex_);
};

}  // namespace kvfs::store
