#include "fs/store/maintenance.h"

#include <algorithm>

#include "fs/store/namespace_registry.h"
#include "fs/store/slab_mover.h"

namespace kvfs::store {
namespace {

constexpr std::chrono::seconds kTick{1};
constexpr std::uint32_t kHitsEverySeconds = 30;
// Blocks looked at, and so records written at most, while a namespace is locked.
constexpr BlockId kChunk = 2048;

}  // namespace

Maintenance::Maintenance(Services& services)
    : services_(services), hits_persisted_at_(wall_seconds()), thread_([this] { run(); }) {}

void Maintenance::stop() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

void Maintenance::run() {
  bool last = false;
  while (!last) {
    {
      MutexLock lock(mutex_);
      if (!stopping_) changed_.wait_until(lock, Clock::now() + kTick);
      last = stopping_;
    }
    services_.slab_mover->remove_retired();
    if (last || wall_seconds() - hits_persisted_at_ >= kHitsEverySeconds) persist_hits();
  }
}

// Losing the last half minute's hits in a crash costs nothing but a little judgement in eviction.
// What the journal has not written yet, as its disk hangs, is waited for: its queue has no end.
void Maintenance::persist_hits() {
  if (!last_round_.expired()) return;
  const auto round = std::make_shared<char>();
  last_round_ = round;
  const std::uint32_t since = hits_persisted_at_;
  hits_persisted_at_ = wall_seconds();
  for (const NamespacePtr& state : services_.registry->states()) {
    BlockId high = kNoBlock;
    for (BlockId begin = 0; begin < high; begin += kChunk) {
      JournalBatch batch{.done = [round](const Status&) {}};
      const MutexLock lock(state->mutex);
      high = state->catalog->high();
      for (BlockId id = begin; id < std::min(high, begin + kChunk); ++id) {
        const Node& node = state->catalog->node(id);
        constexpr std::uint32_t kRecorded = kNodeLive | kNodeJournaled;
        if ((node.flags & kRecorded) != kRecorded || node.hits == 0 || node.last_hit < since)
          continue;
        // A write under way brings the hits along with its record.
        if (!state->writes.contains(id)) batch.ops.push_back(state->journal_record(id));
      }
      // Under the lock: no erasure may come before.
      if (!batch.ops.empty()) services_.journal->submit(std::move(batch));
    }
  }
}

}  // namespace kvfs::store
