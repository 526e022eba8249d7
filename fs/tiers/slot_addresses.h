// Where each slab is mapped, for readers that hold no lock.
#pragma once

#include <sys/mman.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

#include "fs/tiers/dram_tier.h"

namespace kvfs::tiers {

// A table by slab id. Ids only grow, so an entry changes from empty to set to empty, once; the
// table is address space that costs memory only where it is touched.
//
// Threads: of() from any thread without a lock; set() and clear() by the tier, under its lock.
// Owns:    the table. Blocks: never. Errors: none; of() is asked only for slots that are allocated.
class SlotAddresses {
 public:
  static constexpr SlabId kMaxSlabs = SlabId{1} << 24;

  SlotAddresses() {
    void* memory = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    entries_ = static_cast<Entry*>(memory);  // zero bytes are empty entries
  }
  ~SlotAddresses() { ::munmap(entries_, kBytes); }
  SlotAddresses(const SlotAddresses&) = delete;
  SlotAddresses& operator=(const SlotAddresses&) = delete;

  void set(SlabId id, std::byte* base, std::uint64_t slot_bytes) {
    entries_[id].slot_bytes.store(slot_bytes, std::memory_order_relaxed);
    entries_[id].base.store(base, std::memory_order_release);
  }
  void clear(SlabId id) { entries_[id].base.store(nullptr, std::memory_order_release); }

  [[nodiscard]] std::byte* of(DramSlot slot) const {
    const Entry& entry = entries_[slot.slab];
    std::byte* base = entry.base.load(std::memory_order_acquire);
    return base + slot.slot * entry.slot_bytes.load(std::memory_order_relaxed);
  }

 private:
  struct Entry {
    std::atomic<std::byte*> base;
    std::atomic<std::uint64_t> slot_bytes;
  };
  static constexpr std::size_t kBytes = std::size_t{kMaxSlabs} * sizeof(Entry);

  Entry* entries_;
};

}  // namespace kvfs::tiers
