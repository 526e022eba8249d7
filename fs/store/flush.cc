#include "fs/store/flush.h"

#include <iterator>
#include <tuple>
#include <vector>

#include "fs/store/namespace_registry.h"
#include "fs/store/write_back.h"

namespace kvfs::store {

namespace {

// In the place of those who do not wait any more: while nothing is written, many come and go.
void add_waiter(NamespaceState& state, BlockId block, const WaiterPtr& waiter)
    REQUIRES(state.mutex) {
  auto [at, end] = state.flush_waiters.equal_range(block);
  while (at != end) at = at->second->finished() ? state.flush_waiters.erase(at) : std::next(at);
  state.flush_waiters.emplace(block, waiter);
}

}  // namespace

void flush_blocks(NamespaceState& state, std::span<const BlockId> blocks, Deadline deadline,
                  Done done) {
  if (state.services.write_back == nullptr) return done({});
  // One thing more than there are blocks, so that it cannot be over before all are in the list.
  const auto waiter = std::make_shared<Waiter>(std::move(done), blocks.size() + 1);
  waiter->arm(state.services.timer, deadline, "write-back to NVMe");
  bool any = false;
  bool over = false;
  {
    const MutexLock lock(state.mutex);
    for (const BlockId block : blocks) {
      const bool waits = block < state.catalog->high() && state.live(block) &&
                         (state.dirty_anywhere(block) || state.writes.contains(block));
      if (waits) {
        add_waiter(state, block, waiter);
        any = true;
      } else {
        std::ignore = waiter->count_down();  // not the last: one more is counted below
      }
    }
    over = waiter->count_down();
  }
  if (over) waiter->finish({});
  // Asked after the waiter is in the lists: a tier that is taken out of use later finds it there.
  if (any && !state.services.write_back->in_use()) {
    waiter->finish(fail(Code::kIo,
                        "the NVMe tier is out of use after repeated errors: what was "
                        "stored is in DRAM only"));
  }
}

void flush_all(NamespaceState& state, Deadline deadline, Done done) {
  std::vector<BlockId> waiting;
  {
    const MutexLock lock(state.mutex);
    for (const auto& [block, write] : state.writes) waiting.push_back(block);
    for (const DirtyBlock& block : state.dirty) waiting.push_back(block.id);
  }
  flush_blocks(state, waiting, deadline, std::move(done));
}

void fail_flushes(Services& services, const Error& error) {
  for (const NamespacePtr& state : services.registry->states()) {
    std::vector<WaiterPtr> waiters;
    {
      const MutexLock lock(state->mutex);
      for (auto& [block, waiter] : state->flush_waiters) waiters.push_back(waiter);
      state->flush_waiters.clear();
    }
    for (const WaiterPtr& waiter : waiters) waiter->finish(tl::unexpected(error));
  }
}

}  // namespace kvfs::store
