// What becomes of what was removed.
#include "fs/store/removal.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <memory>
#include <utility>

#include "fs/store/namespace_state.h"

namespace kvfs::store {

namespace {

struct Forgetting {
  NamespacePtr state;
  std::vector<JournalOp> ops;
  std::vector<tiers::TierSlot> nvme;
  std::vector<BlockId> ids;
  bool failed = false;  // once at least: counted in Services::unforgotten
};

void forgotten(const Forgetting& what) {
  for (const tiers::TierSlot slot : what.nvme) what.state->services.nvme->free(slot);
  if (what.ids.empty()) return;
  const MutexLock lock(what.state->mutex);
  for (const BlockId block : what.ids) what.state->catalog->recycle(block);
}

// Of a block that was released since, another removal has erased the record, and another block may
// have the id and a record by now; of a prefix that was stored again, a label. Submitted under the
// lock: that is before any record of one that gets the id later.
void forget_again(const std::shared_ptr<Forgetting>& what);

// Slots and ids stay out of use until the journal works again.
void forget(std::shared_ptr<Forgetting> what, Done durable) {
  Services& services = what->state->services;
  services.journal->submit(
      {.ops = what->ops, .done = [&services, what, durable = std::move(durable)](Status status) {
         if (status) {
           if (what->failed) --services.unforgotten;
           forgotten(*what);
         } else if (status.error().code != Code::kUnavailable) {  // the journal has ended
           if (!std::exchange(what->failed, true) && services.unforgotten++ == 0) {
             spdlog::error("what was removed keeps its room until the journal can be written: {}",
                           status.error().message);
           }
           services.timer.after(std::chrono::seconds(1), [what] { forget_again(what); });
         }
         if (durable) durable(std::move(status));
       }});
}

void forget_again(const std::shared_ptr<Forgetting>& what) {
  NamespaceState& state = *what->state;
  const MutexLock lock(state.mutex);
  std::erase_if(what->ops, [&](const JournalOp& op) NO_THREAD_SAFETY_ANALYSIS {
    if (op.table == JournalTable::kLabels) {  // stored again and given a label since?
      return !state.names.label(*prefix_of_label_key(op.key)).empty();
    }
    const BlockId block = block_of_key(op.key);
    return block < state.catalog->high() && state.live(block);
  });
  forget(what, {});
}

}  // namespace

void dispose(NamespaceState& state, Removal removal, Done durable) {
  Services& services = state.services;
  for (const tiers::DramSlot slot : removal.dram) services.dram->free(slot);
  for (const tiers::GpuSlot slot : removal.gpu) services.gpu->free(slot);
  for (const tiers::TierSlot slot : removal.nvme_now) services.nvme->free(slot);
  if (!removal.ops.empty()) {
    forget(
        std::make_shared<Forgetting>(Forgetting{state.shared_from_this(), std::move(removal.ops),
                                                std::move(removal.nvme), std::move(removal.ids)}),
        std::move(durable));
  } else {
    forgotten({state.shared_from_this(), {}, std::move(removal.nvme), std::move(removal.ids)});
    if (durable) durable({});
  }
  for (Finished& due : removal.finished) due.waiter->finish(std::move(due.status));
  if (services.listener == nullptr) return;
  for (const Key& key : removal.keys) services.listener->on_prefix_removed(state.id, key);
}

}  // namespace kvfs::store
