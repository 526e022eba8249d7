#include "fs/store/write_back.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "fs/store/flush.h"
#include "fs/store/nvme_space.h"
#include "fs/store/slab_registry.h"
#include "fs/sync_point.h"
#include "lib/format/checksum.h"

namespace kvfs::store {
namespace {

constexpr std::size_t kThreads = 2;
constexpr std::size_t kWritesInFlight = 64;
// Blocks taken from a namespace at once, before another one has its turn.
constexpr std::size_t kBatch = 8;
// Written together: what the tier makes one request of.
constexpr std::uint64_t kTogetherBytes = 2 << 20;
constexpr std::chrono::milliseconds kPauseWhenFull{200};
constexpr std::chrono::milliseconds kPauseAfterError{50};
constexpr std::chrono::milliseconds kPauseAfterJournalError{1000};

}  // namespace

WriteBack::WriteBack(Services& services) : services_(services) {
  for (std::size_t i = 0; i < kThreads; ++i) threads_.emplace_back([this] { run(); });
}

void WriteBack::stop() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
  services_.room_waiters.made();
}

void WriteBack::add(NamespaceState& state, BlockId block) {
  state.dirty.push_back({block, state.catalog->key(block), Clock::now()});
  mark_ready(state.shared_from_this());
}

void WriteBack::mark_ready(NamespacePtr state) {
  const MutexLock lock(mutex_);
  if (std::ranges::find(ready_, state) != ready_.end()) return;
  ready_.push_back(std::move(state));
  changed_.notify_one();
}

bool WriteBack::makes_room() const {
  const MutexLock lock(mutex_);
  return !stopping_ && under_way();
}

// What is at the device or in the journal ends in any case, well or not; what waits is begun only
// where a tier takes it.
bool WriteBack::under_way() const {
  if (in_flight_ + journaling_ != 0) return true;
  return in_use() && !nvme_full_ && (serving_ != 0 || !ready_.empty());
}

bool WriteBack::in_use() const {
  return services_.nvme_writes.in_use() && services_.nvme_records.in_use();
}

// NO_THREAD_SAFETY_ANALYSIS: the analysis does not know that `lock` is of mutex_.
void WriteBack::tell_when_idle(MutexLock& lock) NO_THREAD_SAFETY_ANALYSIS {
  if (under_way()) return;
  lock.unlock();
  services_.room_waiters.made();
  lock.lock();
}

void WriteBack::pause(std::chrono::milliseconds time) {
  const MutexLock lock(mutex_);
  paused_until_ = std::max(paused_until_, Clock::now() + time);
}

void WriteBack::resume() {
  const MutexLock lock(mutex_);
  paused_until_ = {};
  changed_.notify_all();
}

void WriteBack::failed(TierHealth& health, const Error& error,
                       std::chrono::milliseconds pause_time) {
  pause(pause_time);
  if (health.failed(error.message)) {
    fail_flushes(services_, {Code::kIo, "the NVMe tier is out of use: " + error.message});
  }
}

std::uint32_t WriteBack::queued() const {
  const MutexLock lock(mutex_);
  return static_cast<std::uint32_t>(in_flight_);
}

void WriteBack::run() {
  MutexLock lock(mutex_);
  while (true) {
    if (!ended_.empty()) {
      Write write = std::move(ended_.back());
      ended_.pop_back();
      lock.unlock();
      end(write);
      write.state = nullptr;
      lock.lock();
      --in_flight_;
      changed_.notify_all();
      tell_when_idle(lock);
      continue;
    }
    if (stopping_) {
      if (in_flight_ == 0) return;
      changed_.wait(lock);
      continue;
    }
    if (ready_.empty() || in_flight_ >= kWritesInFlight) {
      changed_.wait(lock);
      continue;
    }
    if (paused_until_ > Clock::now()) {
      const auto until = paused_until_;
      changed_.wait_until(lock, until);
      continue;
    }
    const NamespacePtr state = std::move(ready_.front());
    ready_.pop_front();
    ++serving_;
    lock.unlock();
    serve(state);
    lock.lock();
    --serving_;
    tell_when_idle(lock);
  }
}

void WriteBack::serve(const NamespacePtr& state) {
  if (!services_.nvme_writes.may_try() || !services_.nvme_records.may_try()) {
    pause(std::chrono::milliseconds(500));
    mark_ready(state);
    services_.room_waiters.made();
    return;
  }
  std::vector<Write> writes = take_with_slots(state);
  // The device gets them as soon as there is enough for one large request.
  for (std::size_t first = 0, next = 0; first < writes.size(); first = next) {
    std::uint64_t bytes = 0;
    for (; next < writes.size() && bytes < kTogetherBytes; ++next) {
      add_checksum(writes[next]);
      bytes += state->slot_bytes[writes[next].block.group];
    }
    begin(std::span(writes).subspan(first, next - first));
  }
}

std::vector<WriteBack::Write> WriteBack::take_with_slots(const NamespacePtr& state) {
  const MutexLock in_order(order_mutex_);
  bool more = false;
  Removal removal;
  std::vector<Write> writes = take(*state, more, removal);
  dispose(*state, std::move(removal));
  {
    const MutexLock lock(mutex_);
    in_flight_ += writes.size();
  }
  for (Write& write : writes) {
    auto slot = services_.nvme_space->allocate(*state, write.block.group);
    slot ? void(write.slot = *slot) : void(write.status = pass(std::move(slot)));
  }
  if (more) mark_ready(state);
  return writes;
}

std::vector<WriteBack::Write> WriteBack::take(NamespaceState& state, bool& more, Removal& removal) {
  std::vector<Write> taken;
  const MutexLock lock(state.mutex);
  for (std::size_t blocks = 0; blocks < kBatch && !state.dirty.empty();) {
    const DirtyBlock next = state.dirty.front();
    state.dirty.pop_front();
    if (next.id >= state.catalog->high() || !state.live(next.id) ||
        state.catalog->key(next.id) != next.key || state.writes.contains(next.id)) {
      continue;
    }
    BlockWrite write{.since = next.since};
    for (std::uint32_t g = 0; g < state.groups; ++g) {
      const Placement& placement = state.catalog->placement(next.id, g);
      if ((placement.flags & kDirty) == 0) continue;
      taken.push_back({.state = state.shared_from_this(),
                       .block = {next.id, g},
                       .dram = placement.dram,
                       .checksum = placement.checksum,
                       .has_checksum = (placement.flags & kHasChecksum) != 0});
      state.begin_io(next.id, g);
      ++write.writes_left;
    }
    const bool nothing = write.writes_left == 0;
    if (nothing && state.journaled(next.id)) continue;
    if (nothing) state.hold({&next.id, 1});
    write.held = nothing;
    state.writes.emplace(next.id, write);
    ++blocks;
    // Windows have passed all of its groups; those behind it need its record.
    if (nothing) written(state, next.id, removal);
  }
  more = !state.dirty.empty();
  return taken;
}

void WriteBack::add_checksum(Write& write) {
  if (!write.status || write.has_checksum) return;
  const std::byte* memory = services_.dram->address(write.dram);
  write.checksum = block_checksum({memory, write.state->stored_bytes[write.block.group]});
}

// Those that have a slot go to the device; the others end here.
void WriteBack::begin(std::span<Write> writes) {
  NamespaceState& state = *writes.front().state;
  {
    const MutexLock lock(state.mutex);
    for (const Write& write : writes) {
      if (!write.status) continue;
      const auto [block, group] = write.block;
      Placement& placement = state.catalog->placement(block, group);
      placement.checksum = write.checksum;
      placement.flags |= kHasChecksum;
      state.writes.at(block).slots[group] = write.slot;
    }
  }
  for (Write& write : writes) {
    if (!write.status) {
      came_back(std::move(write));
      continue;
    }
    services_.slab_registry->ensure(write.dram.slab);
    KVFS_SYNC_POINT("write_back:writing");
    const std::span<const std::byte> bytes(services_.dram->address(write.dram),
                                           state.slot_bytes[write.block.group]);
    const tiers::TierSlot to = write.slot;
    services_.nvme->write(to, bytes, [this, write = std::move(write)](Status status) mutable {
      write.status = std::move(status);
      came_back(std::move(write));
    });
  }
}

void WriteBack::came_back(Write write) {
  const MutexLock lock(mutex_);
  ended_.push_back(std::move(write));
  changed_.notify_one();
}

void WriteBack::end(Write& write) {
  NamespaceState& state = *write.state;
  const auto [block, group] = write.block;
  if (write.status) {
    services_.nvme_writes.succeeded();
    // Its record may have to wait for a parent that is still in the queue.
    if (services_.nvme_records.progressed()) resume();
    state.metrics.written_back_bytes.add(state.stored_bytes[group]);
  } else if (write.status.error().code == Code::kNoSpace) {
    static std::atomic<std::int64_t> last_said{0};
    const std::int64_t now = wall_seconds();
    if (now - last_said.exchange(now) > 60) {
      spdlog::warn("write-back waits: {}; unpin prefixes or raise the capacity of --nvme",
                   write.status.error().message);
    }
    pause(kPauseWhenFull);
  } else {
    failed(services_.nvme_writes, write.status.error(), kPauseAfterError);
  }
  {
    const MutexLock lock(mutex_);
    nvme_full_ = !write.status && write.status.error().code == Code::kNoSpace;
  }
  Removal removal;
  {
    const MutexLock lock(state.mutex);
    BlockWrite& whole = state.writes.at(block);
    if (!write.status) {
      whole.failed = true;
      if (whole.slots[group].valid()) removal.nvme_now.push_back(whole.slots[group]);
      whole.slots[group] = {};
      state.end_io(block, group, removal);
    }
    if (--whole.writes_left == 0) written(state, block, removal);
  }
  dispose(state, std::move(removal));
  // Whoever waits for it looks whether others are under way.
  if (!write.status) services_.room_waiters.made();
}

void WriteBack::written(NamespaceState& state, BlockId block, Removal& removal) {
  BlockWrite& write = state.writes.at(block);
  if (write.failed || !state.live(block)) {
    abandon(state, block, removal);
    return;
  }
  write.state = BlockWrite::State::kWritten;
  const BlockId parent = state.catalog->parent(block);
  const auto before = state.writes.find(parent);
  const bool parent_first =
      parent == kNoBlock || state.journaled(parent) ||
      (before != state.writes.end() && before->second.state == BlockWrite::State::kSubmitted);
  if (parent_first) {
    submit(state, block);
  } else {
    state.waiting_for_parent.emplace(parent, block);
  }
}

// Gives up what was written of the block; while it lives it is dirty still.
void WriteBack::abandon(NamespaceState& state, BlockId block, Removal& removal) {
  const auto at = state.writes.find(block);
  const BlockWrite write = at->second;
  state.writes.erase(at);
  const bool live = state.live(block);
  if (live) add(state, block);
  for (std::uint32_t g = 0; g < state.groups; ++g) {
    if (!write.slots[g].valid()) continue;
    if (live && write.changed_after) {
      state.stale_slots.emplace(block, write.slots[g]);
    } else {
      removal.nvme_now.push_back(write.slots[g]);
    }
    state.end_io(block, g, removal);
  }
  if (write.held) state.release({&block, 1}, removal);
}

// And the blocks that have waited for this one. Submitted while the namespace is locked: that is
// what puts a parent's record before its children's, and any record before its erasure.
void WriteBack::submit(NamespaceState& state, BlockId block) {
  JournalBatch batch{.after_sync = true};
  std::vector<BlockId> blocks{block};
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    BlockWrite& write = state.writes.at(blocks[i]);
    write.state = BlockWrite::State::kSubmitted;
    batch.ops.push_back(state.journal_record(blocks[i], &write));
    const auto [begin, end] = state.waiting_for_parent.equal_range(blocks[i]);
    for (auto at = begin; at != end; ++at) blocks.push_back(at->second);
    state.waiting_for_parent.erase(begin, end);
  }
  {
    const MutexLock lock(mutex_);
    journaling_ += blocks.size();
  }
  batch.done = [this, ptr = state.shared_from_this(), blocks = std::move(blocks)](Status status) {
    journaled(*ptr, blocks, status);
  };
  services_.journal->submit(std::move(batch));
}

void WriteBack::journaled(NamespaceState& state, std::span<const BlockId> blocks,
                          const Status& status) {
  if (status) {
    services_.nvme_records.succeeded();
  } else {
    spdlog::error("write-back: {}", status.error().message);
    failed(services_.nvme_records, status.error(), kPauseAfterJournalError);
  }
  const auto now = Clock::now();
  Removal removal;
  {
    const MutexLock lock(state.mutex);
    for (const BlockId block : blocks) {
      if (!status) {
        abandon(state, block, removal);
        continue;
      }
      const auto at = state.writes.find(block);
      const BlockWrite write = at->second;
      state.writes.erase(at);
      state.catalog->set_journaled(block, true);
      for (std::uint32_t g = 0; g < state.groups; ++g) {
        if (!write.slots[g].valid()) continue;
        state.set_nvme(block, g, write.slots[g]);
        state.mark_clean(block, g);
      }
      state.take_stale_slots(block, removal);
      state.catalog->refresh(block);
      if (state.dirty_anywhere(block)) {
        // A group was added while the others were being written.
        if (state.live(block)) add(state, block);
      } else {
        state.finish_flush_waiters(block, {}, removal);
      }
      services_.metrics.writeback_latency.observe(now - write.since);
      for (std::uint32_t g = 0; g < state.groups; ++g) {
        if (write.slots[g].valid()) state.end_io(block, g, removal);
      }
      if (write.held) state.release({&block, 1}, removal);
    }
  }
  dispose(state, std::move(removal));
  {
    const MutexLock lock(mutex_);
    journaling_ -= blocks.size();
  }
  services_.room_waiters.made();
}

}  // namespace kvfs::store
