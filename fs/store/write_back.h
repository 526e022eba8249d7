// WriteBack: brings what was committed from DRAM to NVMe and into the journal.
#pragma once

#include <cstdint>
#include <deque>
#include <thread>
#include <vector>

#include "fs/mutex.h"
#include "fs/store/namespace_state.h"

namespace kvfs::store {

// A dirty block, in the order of commits: a slot is taken (evicting from NVMe if need be), its
// checksum is computed, it is written; when all its groups are, and its parent's record is in the
// journal or before it in its queue, its record is submitted to the journal; when that is durable
// the block has an NVMe copy, is clean, and those who wait for its flush (flush.h) are called.
//
// Slots are taken in the order of the blocks, whichever thread does it: so a prefix lies on NVMe in
// its own order, and reading it back is one run, which makes large requests of small blocks.
//
// The block is held from the first write to the journal's answer, so that no slot in use is freed.
//
// Threads: all calls from any thread. A few threads of its own compute checksums and take slots.
// Owns:    the list of namespaces with dirty blocks. Blocks under way are in their `writes`.
// Blocks:  stop(), for writes at the device.
// Errors:  a block whose write or record failed is dirty again and is tried again, later when they
//          fail again and again.
class WriteBack {
 public:
  explicit WriteBack(Services& services);
  ~WriteBack() { stop(); }
  WriteBack(const WriteBack&) = delete;
  WriteBack& operator=(const WriteBack&) = delete;

  // Appends a live block, all of whose groups that need it are marked dirty.
  void add(NamespaceState& state, BlockId block) REQUIRES(state.mutex);
  // The namespace has dirty blocks that were put there without add(): recovered ones.
  void mark_ready(NamespacePtr state);
  // Some blocks are on their way to being clean, as far as is known: when they are, or it proves
  // that they will not be, the room waiters are called.
  [[nodiscard]] bool makes_room() const;
  // False after errors again and again, until a try goes well.
  [[nodiscard]] bool in_use() const;
  [[nodiscard]] std::uint32_t queued() const;  // writes at the device
  // What is dirty stays so; what is at the device ends. The journal must still run.
  void stop();

 private:
  struct Write {
    NamespacePtr state;
    BlockOf block;
    tiers::DramSlot dram;
    tiers::TierSlot slot;
    std::uint64_t checksum = 0;
    bool has_checksum = false;
    Status status;
  };

  void run();
  [[nodiscard]] bool under_way() const REQUIRES(mutex_);
  void tell_when_idle(MutexLock& lock);
  void serve(const NamespacePtr& state);
  std::vector<Write> take(NamespaceState& state, bool& more, Removal& removal);
  std::vector<Write> take_with_slots(const NamespacePtr& state);
  void begin(std::span<Write> writes);
  void add_checksum(Write& write);
  void came_back(Write write);
  void end(Write& write);
  void written(NamespaceState& state, BlockId block, Removal& removal) REQUIRES(state.mutex);
  void abandon(NamespaceState& state, BlockId block, Removal& removal) REQUIRES(state.mutex);
  void submit(NamespaceState& state, BlockId block) REQUIRES(state.mutex);
  void journaled(NamespaceState& state, std::span<const BlockId> blocks, const Status& status);
  void pause(std::chrono::milliseconds time);
  void resume();
  void failed(TierHealth& health, const Error& error, std::chrono::milliseconds pause_time);

  Services& services_;
  Mutex order_mutex_;    // from taking blocks until they have slots; taken before all others
  mutable Mutex mutex_;  // lock order: namespace -> this
  CondVar changed_;
  std::deque<NamespacePtr> ready_ GUARDED_BY(mutex_);  // have dirty blocks; each at most once
  std::vector<Write> ended_ GUARDED_BY(mutex_);
  std::size_t in_flight_ GUARDED_BY(mutex_) = 0;
  std::size_t serving_ GUARDED_BY(mutex_) = 0;     // threads that take blocks from a namespace
  std::size_t journaling_ GUARDED_BY(mutex_) = 0;  // blocks submitted to the journal
  bool nvme_full_ GUARDED_BY(mutex_) = false;      // the last block found no slot
  Clock::time_point paused_until_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace kvfs::store
