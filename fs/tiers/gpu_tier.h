// The GPU tier: copies of hot blocks in a device's memory, which clients of the same device map.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "fs/mutex.h"
#include "fs/tiers/dram_tier.h"
#include "fs/tiers/slot_bitmap.h"
#include "gpu/shared_memory.h"
#include "lib/format/ioctls.h"
#include "lib/format/result.h"

namespace kvfs::tiers {

// A slot of the GPU tier; goes to clients as Extent. Its slab's id is kFirstGpuSlab or above.
struct GpuSlot {
  SlabId slab = kSlabNotResident;
  std::uint32_t slot = 0;
  [[nodiscard]] bool valid() const { return slab != kSlabNotResident; }
  friend bool operator==(const GpuSlot&, const GpuSlot&) = default;
};

struct GpuOptions {
  std::uint64_t capacity = 0;    // bytes, hard
  std::uint64_t slab_bytes = 0;  // multiple of 2 MiB; 0: capacity / 32 within [2 MiB, 256 MiB]
  std::uint64_t reserve = 0;     // bytes of the device that stay free for others
};

struct GpuSlabView {
  SlabId id;
  SlabOwner owner;
  std::uint64_t bytes;
  std::uint64_t slot_bytes;
  std::uint32_t slots;
  std::uint32_t used;
  std::uint32_t opens;
  bool retiring;
};

// What is here is below, too: a slab may go at any moment that nobody maps it. Nothing survives the
// daemon.
// States of a slab and the call that moves each:
//   (none)    -> owned     by allocate()
//   owned     -> retiring  by retire(): no new slots
//   retiring  -> gone      by remove_retired(), when used == 0 and no client has it open
//
// Threads: all calls from any thread; one mutex inside, not held while bytes move or memory is
//          taken.
// Owns:    the device's memory.
// Blocks:  allocate() and remove_retired() for the device, write() until the bytes are there.
// Errors:  kNoSpace from allocate() when capacity, or what the device can spare, is used up; kIo
//          from the device itself.
class GpuTier {
 public:
  GpuTier(const GpuOptions& options, std::unique_ptr<gpu::SharedMemoryPool> pool);

  Result<GpuSlot> allocate(SlabOwner owner, std::uint64_t slot_bytes);
  void free(GpuSlot slot);
  Status write(GpuSlot slot, std::span<const std::byte> bytes);
  // kNotFound: there is no such slab (any more).
  Result<gpu::SharedHandle> handle(SlabId id) const;

  void retire(SlabId id);
  [[nodiscard]] bool retiring(SlabId id) const;          // or gone
  std::vector<GpuSlabView> remove_retired();             // which went
  void count_open(SlabId id, int delta);                 // clients' descriptors, told by the mount
  [[nodiscard]] std::vector<GpuSlabView> slabs() const;  // by id

  // How many bytes others miss of the reserve, those of retiring slabs counted as given back.
  Result<std::uint64_t> shortage() const;

  [[nodiscard]] std::uint64_t capacity() const { return options_.capacity; }
  [[nodiscard]] std::uint64_t used_bytes() const;      // slots handed out
  [[nodiscard]] std::uint64_t reserved_bytes() const;  // slabs

 private:
  struct Slab {
    SlabOwner owner;
    std::uint64_t slot_bytes;
    SlotBitmap slots;
    std::shared_ptr<gpu::SharedMemory> memory;
    std::uint32_t opens = 0;
    bool retiring = false;
  };
  GpuSlot take_slot(SlabOwner owner, std::uint64_t slot_bytes) REQUIRES(mutex_);
  Result<std::shared_ptr<gpu::SharedMemory>> take_memory(std::uint64_t bytes);

  const GpuOptions options_;
  const std::unique_ptr<gpu::SharedMemoryPool> pool_;
  mutable Mutex mutex_;
  std::map<SlabId, Slab> slabs_ GUARDED_BY(mutex_);
  std::uint64_t taken_ GUARDED_BY(mutex_) = 0;  // bytes of slabs, and of one being made
  SlabId next_id_ GUARDED_BY(mutex_) = kFirstGpuSlab;
};

}  // namespace kvfs::tiers
