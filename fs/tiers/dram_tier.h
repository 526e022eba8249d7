// The DRAM tier: slabs, each one shmem file of equal slots, drawn from one budget (design section
// 7).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lib/format/ioctls.h"
#include "lib/format/result.h"

namespace kvfs::tiers {

using SlabId = std::uint32_t;

// A slot of the DRAM tier. The same pair goes to clients as Extent.
struct DramSlot {
  SlabId slab = kSlabNotResident;
  std::uint32_t slot = 0;
  [[nodiscard]] bool valid() const { return slab < kSlabPresent; }
  friend bool operator==(const DramSlot&, const DramSlot&) = default;
};

struct DramOptions {
  std::string directory;         // made if missing; on a tmpfs (or, tests only, any file system)
  std::uint64_t capacity = 0;    // bytes, hard
  std::uint64_t slab_bytes = 0;  // multiple of 2 MiB; 0: capacity / 16 within [2 MiB, 1 GiB]
  bool pretouch = true;          // fault the whole budget in at start, in parallel
  std::function<void(std::uint64_t done, std::uint64_t total)> progress;
};

// Whose slots a slab holds.
struct SlabOwner {
  std::uint32_t namespace_id = 0;
  std::uint32_t group = 0;
  friend bool operator==(const SlabOwner&, const SlabOwner&) = default;
};

// One slab as the rest of the daemon sees it. Valid until it is removed.
struct SlabView {
  SlabId id;
  SlabOwner owner;
  std::uint64_t bytes;
  std::uint64_t slot_bytes;
  std::uint32_t slots;
  std::uint32_t used;
  std::uint32_t opens;  // clients' descriptors
  bool retiring;
  int fd;           // owned by the tier; read-write
  std::byte* base;  // the daemon's mapping
};

// States of a slab and the call that moves each:
//   pooled    has its memory, no owner          -> owned     by allocate(), provide()
//   owned     slots are handed out              -> retiring  by retire()
//   retiring  no new slots; blocks are leaving  -> gone      by remove() when used == 0 and closed
// A slab never changes its owner, and none goes by itself, empty or not: whoever registered its
// memory or told clients of it hears first. Its bytes count against the capacity until it is gone.
//
// Threads: all calls from any thread; the mutex that all need is never held across page faults or
//          while a slab gets its memory.
// Owns:    slab files, their descriptors and mappings.
// Blocks:  open() touches memory; remove() and forget_survivors() free it. allocate() and provide()
//          when a slab has to be made: only callers that need one wait. The others do not block.
// Errors:  kBusy from open() when another daemon has the directory, kNoSpace when it or the machine
//          has too little memory. kNoSpace from allocate() when the budget is used up, or the file
//          system has no memory for another slab: the caller retires or evicts.
class DramTier {
 public:
  static Result<std::unique_ptr<DramTier>> open(const DramOptions& options);
  ~DramTier();
  DramTier(const DramTier&) = delete;
  DramTier& operator=(const DramTier&) = delete;

  // Slabs found in the directory from an earlier daemon are kept aside as `survivors` with their
  // former owner and slot size (written beside each slab); the store claims the slots it knows and
  // then calls forget_survivors(), which removes those without a claimed slot. Until then slabs()
  // and slab() show survivors too, and allocate() leaves them alone. kNotFound: that slab did not
  // survive; kInvalid: it has no such slot; kExists: claimed already.
  Status claim(DramSlot slot);
  void forget_survivors();

  // Up to `count` slots, adjacent where possible (so that DMA merges), from the owner's slabs, then
  // from a new slab. Fills a prefix of `out` and returns how many; kNoSpace only when none.
  Result<std::size_t> allocate(SlabOwner owner, std::uint64_t slot_bytes, std::span<DramSlot> out);
  void free(DramSlot slot);
  // New slabs for the owner until it has `bytes` of them that are not retiring, as long as nobody
  // has the memory. Returns how many bytes it has.
  Result<std::uint64_t> provide(SlabOwner owner, std::uint64_t slot_bytes, std::uint64_t bytes);

  [[nodiscard]] std::byte* address(DramSlot slot) const;  // no lock; slot must be allocated
  [[nodiscard]] std::vector<SlabView> slabs() const;
  [[nodiscard]] Result<SlabView> slab(SlabId id) const;

  // Moving slabs between owners.
  Status retire(SlabId id);  // stops allocation from it
  // Retires one of another owner none of whose slots is taken, nor was a moment ago: who asks for
  // much gets it slab by slab, and keeps what is there while the rest comes. One that no client has
  // open, if there is one; `opened_too`: else any.
  std::optional<SlabView> retire_empty(SlabOwner not_of, bool opened_too);
  Status remove(SlabId id);  // retiring, used == 0, opens == 0: punched, unlinked, budget returned
  // Every slab, used or not, open or not: for a stop that keeps nothing. Only the destructor may
  // follow.
  void discard_all();
  void count_open(SlabId id, int delta);  // clients' descriptors, told by the mount

  [[nodiscard]] std::uint64_t capacity() const;
  [[nodiscard]] std::uint64_t used_bytes() const;   // slots handed out
  [[nodiscard]] std::uint64_t owned_bytes() const;  // slabs with an owner, retiring ones included
  [[nodiscard]] std::uint64_t slab_bytes() const;

 private:
  struct Impl;
  explicit DramTier(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvfs::tiers
