// SlabPool: where the DRAM tier's slabs come from: made, and kept until somebody needs one.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "fs/mutex.h"
#include "fs/tiers/dram_directory.h"
#include "fs/tiers/slab_toucher.h"
#include "lib/format/result.h"

namespace kvfs::tiers {

// A slab without an owner: nobody has written to it.
struct PooledSlab {
  SlabId id;
  std::shared_ptr<SlabFile> file;
};

// The budget of all slabs, with an owner or without: a slab counts from before it is made until
// gone() is told that its memory went back. Ids only grow, and none is used twice.
//
// Threads: all calls from any thread; the mutex is never held while a slab gets its memory.
//          Lock order: growing -> the tier's mutex -> this one's.
// Owns:    the slabs in it; one that was taken is the caller's.
// Blocks:  fill() touches memory; grow_until() where a slab is made: only callers that need one
//          wait. The others do not block.
// Errors:  kNoSpace: the budget is used up, or the file system has no memory for another slab.
class SlabPool {
 public:
  // `directory` outlives it; `next_id` is above those of all slabs that are there.
  SlabPool(const DramDirectory& directory, std::uint64_t capacity, std::uint64_t slab_bytes,
           SlabId next_id)
      : directory_(directory), capacity_(capacity), slab_bytes_(slab_bytes), next_id_(next_id) {}

  // A slab that is there already counts from now on. False: the budget has no room for it.
  bool count(std::uint64_t bytes) EXCLUDES(mutex_);
  void put(PooledSlab slab) EXCLUDES(mutex_);
  // Nothing: it is empty.
  std::optional<PooledSlab> take() EXCLUDES(mutex_);
  void gone(std::uint64_t bytes) EXCLUDES(mutex_);
  // Makes what the budget has left and faults all in, in parallel; those made later are touched
  // behind the caller's back. Before any thread takes a slab.
  Status fill(const TouchProgress& progress) EXCLUDES(mutex_);
  // `enough` takes from what there is and says whether that was all it needs; again with each slab
  // that is made, by one caller at a time.
  template <typename Enough>
  Status grow_until(Enough enough) EXCLUDES(growing_, mutex_) {
    Result<bool> done = enough();
    if (!done || *done) return done ? Status{} : pass(std::move(done));
    if (!may_grow()) return no_budget();
    const MutexLock one(growing_);
    while (true) {
      done = enough();
      if (!done || *done) return done ? Status{} : pass(std::move(done));
      if (Status grown = grow(); !grown) return grown;
    }
  }

  [[nodiscard]] std::uint64_t missing() const EXCLUDES(mutex_);  // bytes of slabs not made yet

 private:
  [[nodiscard]] bool budget_left() const REQUIRES(mutex_);
  // Or somebody else's slab is on its way.
  [[nodiscard]] bool may_grow() const EXCLUDES(mutex_);
  [[nodiscard]] tl::unexpected<Error> no_budget() const;
  Status grow() REQUIRES(growing_) EXCLUDES(mutex_);  // by one slab
  [[nodiscard]] Result<std::shared_ptr<SlabFile>> make(SlabId id) const;

  const DramDirectory& directory_;
  const std::uint64_t capacity_;
  const std::uint64_t slab_bytes_;
  std::optional<SlabToucher> toucher_;  // from fill() on

  Mutex growing_;  // held while a slab is made
  mutable Mutex mutex_;
  std::vector<PooledSlab> slabs_ GUARDED_BY(mutex_);  // the next one to use last
  SlabId next_id_ GUARDED_BY(mutex_);
  std::uint64_t budgeted_ GUARDED_BY(mutex_) = 0;  // bytes of all slabs that count
  bool making_ GUARDED_BY(mutex_) = false;         // one that counts already
  // There was no memory: not before then.
  std::chrono::steady_clock::time_point grow_again_ GUARDED_BY(mutex_);
};

}  // namespace kvfs::tiers
