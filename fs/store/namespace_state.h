// NamespaceState: one namespace's blocks and what is under way with them. The parts that move data
// (write-back, promotion, eviction) and those that use it (leases, reservations) meet here.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "fs/mutex.h"
#include "fs/store/catalog.h"
#include "fs/store/journal_records.h"
#include "fs/store/metrics.h"
#include "fs/store/names.h"
#include "fs/store/removal.h"
#include "fs/store/services.h"
#include "gpu/device.h"

namespace kvfs::store {

// A block of one group.
struct BlockOf {
  BlockId id;
  std::uint32_t group;
  friend bool operator==(const BlockOf&, const BlockOf&) = default;
};
struct BlockOfHash {
  std::size_t operator()(const BlockOf& b) const noexcept {
    return std::hash<std::uint64_t>{}(std::uint64_t{b.id} << 8 | b.group);
  }
};

// A block that waits for write-back. The id may be another block's by the time it is looked at.
struct DirtyBlock {
  BlockId id;
  Key key;
  Clock::time_point since;
};

// A block on its way to NVMe. States:
//   writing    -> written    when the last group's write ended well
//   written    -> submitted  when its parent is journaled or submitted
//   any        -> dirty again on an error; submitted -> clean with the journal's commit
struct BlockWrite {
  enum class State : std::uint8_t { kWriting, kWritten, kSubmitted };
  State state = State::kWriting;
  std::uint32_t writes_left = 0;
  bool failed = false;
  bool held = false;  // by itself, as there is nothing to write: else by the I/O of its groups
  bool changed_after = false;  // a change was submitted behind its record, with the same slots
  std::array<tiers::TierSlot, kMaxGroups> slots{};  // invalid: not written in this round
  Clock::time_point since;
};

// A read from NVMe, queued or running.
struct Promotion {
  std::vector<WaiterPtr> waiters;
  std::vector<std::weak_ptr<const void>> wanted_by;  // leases; when none is left, it is not begun
  Clock::time_point since;
};

// The longest prefix whose lease keeps all its blocks where they are, in blocks; a lease of more
// streams (LeaseImpl).
std::uint32_t held_blocks(const Services& services, const Geometry& geometry);

// Holds: whatever uses a block acquires it in the catalog, so that it stays (dooming it at worst):
// a lease and a pin its whole prefix, a reservation the last block that is stored already, I/O the
// block it works for, which also counts in the placement's io_pins.
//
// Threads: members and methods that say so under `mutex`; const members from any thread.
// Owns:    the catalog, and with it the slots of its blocks; the waiters.
// Blocks:  never.
// Errors:  as noted.
class NamespaceState : public std::enable_shared_from_this<NamespaceState> {
 public:
  NamespaceState(Services& shared, const NamespaceRecord& record, std::unique_ptr<Catalog> blocks);

  Services& services;
  const std::uint32_t id;
  const Geometry geometry;
  const std::uint32_t created_at;
  const std::uint32_t groups;
  // Not changed after construction.
  std::array<std::uint64_t, kMaxGroups> stored_bytes{}, slot_bytes{};
  std::array<gpu::BlockShape, kMaxGroups> shapes{};
  const std::uint32_t held_blocks;
  NamespaceMetrics metrics;

  // Lock order: this -> the tiers', the journal's and the timer's. Never two namespaces' at once.
  mutable Mutex mutex;
  std::deque<std::string> name_history
      GUARDED_BY(mutex);  // the last is its name; references stay valid
  Ownership ownership GUARDED_BY(mutex);
  bool removed GUARDED_BY(mutex) = false;  // the namespace: nothing may be added any more
  std::unique_ptr<Catalog> catalog GUARDED_BY(mutex);
  Names names GUARDED_BY(mutex);
  std::deque<DirtyBlock> dirty GUARDED_BY(mutex);
  std::unordered_map<BlockId, BlockWrite> writes GUARDED_BY(mutex);
  std::unordered_multimap<BlockId, BlockId> waiting_for_parent GUARDED_BY(mutex);
  std::unordered_multimap<BlockId, WaiterPtr> flush_waiters GUARDED_BY(mutex);
  std::unordered_map<BlockOf, Promotion, BlockOfHash> promotions GUARDED_BY(mutex);
  // NVMe slots that a block's record names still, though their bytes proved bad, or may name,
  // though the write of its own failed.
  std::unordered_multimap<BlockId, tiers::TierSlot> stale_slots GUARDED_BY(mutex);
  // How many of a block's leases do not use it: its place in DRAM may be taken.
  std::unordered_map<BlockId, std::uint32_t> idle_holds GUARDED_BY(mutex);
  // Copies in the GPU tier. Of a live or doomed block; the slot is the block's.
  std::unordered_map<BlockOf, tiers::GpuSlot, BlockOfHash> on_gpu GUARDED_BY(mutex);

  [[nodiscard]] bool packed() const { return geometry.encoding == Encoding::kPacked; }
  [[nodiscard]] const std::string& name() const REQUIRES(mutex) { return name_history.back(); }
  [[nodiscard]] NamespaceRecord record() const REQUIRES(mutex);
  [[nodiscard]] tiers::SlabOwner owner(std::uint32_t group) const { return {id, group}; }
  // What its block of this group is called in logs: key and path.
  [[nodiscard]] std::string describe(BlockId block) const REQUIRES(mutex);
  // kNotFound: it was removed.
  [[nodiscard]] Status is_there() const REQUIRES(mutex);

  // -- holds
  void hold(std::span<const BlockId> ids) REQUIRES(mutex) { catalog->acquire(ids); }
  void release(std::span<const BlockId> ids, Removal& removal) REQUIRES(mutex);
  void begin_io(BlockId block, std::uint32_t group) REQUIRES(mutex);
  void end_io(BlockId block, std::uint32_t group, Removal& removal) REQUIRES(mutex);
  [[nodiscard]] bool live(BlockId block) const REQUIRES(mutex) {
    return (catalog->node(block).flags & kNodeLive) != 0;
  }
  [[nodiscard]] bool pinned(BlockId block) const REQUIRES(mutex) {
    return (catalog->node(block).flags & kNodePinned) != 0;
  }
  // Holds of leases, reservations and pins; I/O left out.
  [[nodiscard]] std::uint32_t held_by_others(BlockId block) const REQUIRES(mutex);
  void pin(BlockId tip) REQUIRES(mutex);
  void unpin(BlockId tip, Removal& removal) REQUIRES(mutex);

  // -- residency: the catalog's, with the metrics kept right
  void set_dram(BlockId block, std::uint32_t group, tiers::DramSlot slot, std::uint16_t flags)
      REQUIRES(mutex);
  tiers::DramSlot clear_dram(BlockId block, std::uint32_t group) REQUIRES(mutex);
  void set_nvme(BlockId block, std::uint32_t group, tiers::TierSlot slot) REQUIRES(mutex);
  // The NVMe copy is bad: it is not used any more, and its slot is free when the record is.
  void give_up_nvme(BlockId block, std::uint32_t group) REQUIRES(mutex);
  void take_stale_slots(BlockId block, Removal& removal) REQUIRES(mutex);
  void set_gpu(BlockId block, std::uint32_t group, tiers::GpuSlot slot) REQUIRES(mutex);
  // The slot goes into `removal`: nobody may hold the block, or its slab is retiring.
  void clear_gpu(BlockId block, std::uint32_t group, Removal& removal) REQUIRES(mutex);
  void clear_gpu(BlockId block, Removal& removal) REQUIRES(mutex);  // of all groups
  void mark_dirty(BlockId block, std::uint32_t group) REQUIRES(mutex);
  void mark_clean(BlockId block, std::uint32_t group) REQUIRES(mutex);
  // In DRAM and ready to be handed out.
  [[nodiscard]] bool resident(BlockId block, std::uint32_t group) const REQUIRES(mutex);
  // Its DRAM slot may be taken away, as far as holds and I/O go.
  [[nodiscard]] bool movable(BlockId block, std::uint32_t group) const REQUIRES(mutex);
  // A block came into DRAM, from a client or from NVMe; bytes of it were loaded from there.
  void count_stored(std::uint32_t group) {
    metrics.stored_bytes.add(stored_bytes[group]);
    services.metrics.dram_bytes_in.add(stored_bytes[group]);
  }
  void count_promoted(std::uint32_t group) {
    metrics.promoted_bytes.add(stored_bytes[group]);
    services.metrics.dram_bytes_in.add(stored_bytes[group]);
  }
  void count_loaded(std::uint64_t bytes) {
    metrics.loaded_bytes.add(bytes);
    services.metrics.dram_bytes_out.add(bytes);
  }
  void count_loaded_from_gpu(std::uint64_t bytes) {
    metrics.loaded_bytes.add(bytes);
    services.metrics.gpu_bytes_out.add(bytes);
  }
  [[nodiscard]] bool dirty_anywhere(BlockId block) const REQUIRES(mutex);
  // eviction_value of the block, per byte of its group.
  [[nodiscard]] double value(BlockId block, std::uint32_t group, std::uint32_t now) const
      REQUIRES(mutex);

  // -- structure
  // The catalog's publish(), prepare() being the catalog's own.
  void publish(std::span<const BlockId> chain) REQUIRES(mutex);
  Result<BlockId> insert(const Catalog::NewBlock& block) REQUIRES(mutex);
  // Takes a live leaf away. Its slots go into `removal`, at once or when its last hold goes.
  void remove(BlockId block, Removal& removal) REQUIRES(mutex);
  // The same with a leaf that nobody holds, and then with those before it that are such leaves by
  // now and in no tier, as windows have passed them: nothing else would ever take them. Returns how
  // many.
  std::uint64_t evict_leaf(BlockId leaf, Removal& removal) REQUIRES(mutex);
  // Its bytes, of whatever groups, are in no tier.
  [[nodiscard]] bool nowhere(BlockId block) const REQUIRES(mutex);
  // Live blocks and all that follows them, leaf-first, pinned or not. Returns how many.
  std::uint64_t remove_with_followers(std::span<const BlockId> roots, Removal& removal)
      REQUIRES(mutex);
  // An unpinned leaf that nobody holds.
  [[nodiscard]] bool removable(BlockId block) const REQUIRES(mutex);
  // The journal's record of the block as it is now, with the slots of a write that is being
  // journaled.
  [[nodiscard]] JournalOp journal_record(BlockId block, const BlockWrite* write = nullptr) const
      REQUIRES(mutex);
  [[nodiscard]] bool journaled(BlockId block) const REQUIRES(mutex) {
    return (catalog->node(block).flags & kNodeJournaled) != 0;
  }

  // -- flushing
  void finish_flush_waiters(BlockId block, const Status& status, Removal& removal) REQUIRES(mutex);

 private:
  void take_slots(std::span<const Placement> placements, Removal& removal) REQUIRES(mutex);
  [[nodiscard]] bool durable_store() const { return services.nvme != nullptr; }
};
using NamespacePtr = std::shared_ptr<NamespaceState>;

// removal.cc: deals with what was removed: frees, journals, tells. Call with no lock held.
// `durable`, if given, is called when the journal has forgotten all of it.
void dispose(NamespaceState& state, Removal removal, Done durable = {});

}  // namespace kvfs::store
