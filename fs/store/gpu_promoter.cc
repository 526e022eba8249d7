#include "fs/store/gpu_promoter.h"

#include <pthread.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <optional>
#include <unordered_map>
#include <utility>

#include "fs/store/namespace_registry.h"

namespace kvfs::store {
namespace {

// Between two looks at how much memory the device has left.
constexpr std::chrono::milliseconds kLook{100};
// Prefixes that wait; who comes later comes again with his next lease.
constexpr std::size_t kMostWanted = 256;
// Blocks copied between two looks at what is wanted of the thread.
constexpr std::size_t kBatch = 32;
// Having looked in vain for blocks that are worth less, how long it does not look again: it looks
// at all of them, with their namespace locked.
constexpr std::chrono::milliseconds kContent{500};
// A block leaves for one that is worth clearly more, else two would take turns.
constexpr double kClearlyLess = 0.8;

}  // namespace

GpuPromoter::GpuPromoter(Services& services) : services_(services), thread_([this] { run(); }) {
  pthread_setname_np(thread_.native_handle(), "kvfs-gpu-tier");
}

void GpuPromoter::stop() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

bool GpuPromoter::stopping() const {
  const MutexLock lock(mutex_);
  return stopping_;
}

std::uint32_t GpuPromoter::queued() const {
  const MutexLock lock(mutex_);
  return static_cast<std::uint32_t>(wanted_.size());
}

void GpuPromoter::want(const NamespacePtr& state, const Key& tip) {
  const MutexLock lock(mutex_);
  if (wanted_.size() >= kMostWanted) return;
  const bool known = std::ranges::any_of(
      wanted_, [&](const Wanted& one) { return one.namespace_id == state->id && one.tip == tip; });
  if (known) return;
  wanted_.push_back({state, state->id, tip});
  changed_.notify_one();
}

void GpuPromoter::run() {
  while (true) {
    std::optional<Wanted> next;
    {
      MutexLock lock(mutex_);
      if (!stopping_ && wanted_.empty()) changed_.wait_until(lock, Clock::now() + kLook);
      if (stopping_) return;
      if (!wanted_.empty()) {
        next = std::move(wanted_.front());
        wanted_.pop_front();
      }
    }
    remove_retired();
    if (lost_) continue;
    relieve_if_due();
    const NamespacePtr state = next ? next->state.lock() : nullptr;
    if (state != nullptr) promote(*state, next->tip);
  }
}

// -- copying

void GpuPromoter::promote(NamespaceState& state, const Key& tip) {
  std::vector<BlockId> chain;
  {
    const MutexLock lock(state.mutex);
    const BlockId id = state.catalog->find(tip);
    if (id == kNoBlock || state.removed) return;
    state.catalog->chain(id, chain);
    state.hold(chain);
  }
  bool room = true;
  for (std::uint32_t g = 0; room && g < state.groups; ++g) {
    const std::uint32_t window = state.geometry.window_blocks(g);
    std::size_t next = window == 0 || window > chain.size() ? 0 : chain.size() - window;
    while (room && next < chain.size() && !stopping()) {
      const std::vector<BlockId> blocks = next_blocks(state, g, chain, next);
      Removal removal;
      for (const BlockId block : blocks) {
        room = room && copy(state, block, g);
        const MutexLock lock(state.mutex);
        state.end_io(block, g, removal);
      }
      dispose(state, std::move(removal));
      relieve_if_due();
    }
  }
  Removal removal;
  {
    const MutexLock lock(state.mutex);
    state.release(chain, removal);
  }
  dispose(state, std::move(removal));
}

std::vector<BlockId> GpuPromoter::next_blocks(NamespaceState& state, std::uint32_t group,
                                              std::span<const BlockId> chain, std::size_t& next) {
  std::vector<BlockId> blocks;
  const MutexLock lock(state.mutex);
  for (; next < chain.size() && blocks.size() < kBatch; ++next) {
    const BlockId block = chain[next];
    if (!state.resident(block, group) || state.on_gpu.contains({block, group})) continue;
    state.begin_io(block, group);
    blocks.push_back(block);
  }
  return blocks;
}

bool GpuPromoter::copy(NamespaceState& state, BlockId block, std::uint32_t group) {
  if (lost_) return false;
  const Result<tiers::GpuSlot> slot = take_slot(state, block, group);
  if (!slot) {
    if (slot.error().code != Code::kNoSpace) give_up(slot.error());
    return false;
  }
  const std::byte* source = nullptr;
  {
    const MutexLock lock(state.mutex);
    source = services_.dram->address(state.catalog->placement(block, group).dram);
  }
  // begin_io() keeps the bytes where they are.
  const Status written = services_.gpu->write(*slot, {source, state.stored_bytes[group]});
  if (!written) {
    services_.gpu->free(*slot);
    give_up(written.error());
    return false;
  }
  services_.metrics.gpu_bytes_in.add(state.stored_bytes[group]);
  const MutexLock lock(state.mutex);
  // retire() marks the slab before it looks for its blocks under this lock.
  if (!state.live(block) || services_.gpu->retiring(slot->slab)) {
    services_.gpu->free(*slot);
    return true;
  }
  state.set_gpu(block, group, *slot);
  return true;
}

// -- room

Result<tiers::GpuSlot> GpuPromoter::take_slot(NamespaceState& state, BlockId block,
                                              std::uint32_t group) {
  double value = 0;
  {
    const MutexLock lock(state.mutex);
    value = state.value(block, group, wall_seconds());
  }
  while (true) {
    Result<tiers::GpuSlot> slot =
        services_.gpu->allocate(state.owner(group), state.slot_bytes[group]);
    if (slot || slot.error().code != Code::kNoSpace || Clock::now() < content_until_) return slot;
    if (!evict_below(state, group, value * kClearlyLess) &&
        !retire_below(state, group, value * kClearlyLess)) {
      content_until_ = Clock::now() + kContent;
      return slot;
    }
  }
}

// A sixteenth of what may go, so that not every block looks at all of them.
bool GpuPromoter::evict_below(NamespaceState& state, std::uint32_t group, double value) {
  std::vector<std::pair<double, BlockId>> lower;
  Removal removal;
  {
    const MutexLock lock(state.mutex);
    const std::uint32_t now = wall_seconds();
    for (const auto& [at, slot] : state.on_gpu) {
      if (at.group != group || state.held_by_others(at.id) != 0) continue;
      if (services_.gpu->retiring(slot.slab)) continue;
      const double worth = state.value(at.id, group, now);
      if (worth < value) lower.emplace_back(worth, at.id);
    }
    const std::size_t count = std::min(lower.size(), std::max(kBatch, lower.size() / 16));
    std::ranges::partial_sort(lower, lower.begin() + static_cast<std::ptrdiff_t>(count));
    lower.resize(count);
    for (const auto& [worth, block] : lower) state.clear_gpu(block, group, removal);
    state.metrics.evicted_gpu.add(count);
  }
  dispose(state, std::move(removal));
  return !lower.empty();
}

namespace {

struct Worth {
  double value = 0;
  std::uint32_t blocks = 0;
  bool held = false;
  [[nodiscard]] double mean() const { return blocks == 0 ? 0 : value / blocks; }
};

// What the blocks of each slab are worth.
std::unordered_map<tiers::SlabId, Worth> worth_of_slabs(Services& services) {
  std::unordered_map<tiers::SlabId, Worth> worth;
  const std::uint32_t now = wall_seconds();
  for (const NamespacePtr& state : services.registry->states()) {
    const MutexLock lock(state->mutex);
    for (const auto& [at, slot] : state->on_gpu) {
      Worth& of_slab = worth[slot.slab];
      of_slab.value += state->value(at.id, at.group, now);
      ++of_slab.blocks;
      of_slab.held = of_slab.held || state->held_by_others(at.id) != 0;
    }
  }
  return worth;
}

}  // namespace

// One slab of another namespace or group. While clients have such a one open nothing is gained by
// taking the next.
bool GpuPromoter::retire_below(const NamespaceState& needy, std::uint32_t group, double value) {
  const std::vector<tiers::GpuSlabView> slabs = services_.gpu->slabs();
  const bool waiting = std::ranges::any_of(slabs, &tiers::GpuSlabView::retiring);
  if (waiting) return false;
  std::unordered_map<tiers::SlabId, Worth> worth = worth_of_slabs(services_);
  std::optional<tiers::GpuSlabView> lowest;
  for (const tiers::GpuSlabView& slab : slabs) {
    const Worth& of_slab = worth[slab.id];
    if (slab.owner == needy.owner(group) || of_slab.held || of_slab.mean() >= value) continue;
    if (!lowest || of_slab.mean() < worth[lowest->id].mean()) lowest = slab;
  }
  if (!lowest) return false;
  retire(*lowest);
  return services_.gpu->slabs().size() < slabs.size();  // no client had it open
}

void GpuPromoter::retire(const tiers::GpuSlabView& slab) {
  services_.gpu->retire(slab.id);
  for (const NamespacePtr& state : services_.registry->states()) {
    if (state->id != slab.owner.namespace_id) continue;
    Removal removal;
    {
      const MutexLock lock(state->mutex);
      std::vector<BlockOf> inside;
      for (const auto& [at, slot] : state->on_gpu) {
        if (slot.slab == slab.id) inside.push_back(at);
      }
      for (const BlockOf& at : inside) state->clear_gpu(at.id, at.group, removal);
      state->metrics.evicted_gpu.add(inside.size());
      state->catalog->announce_retired_slab();
    }
    dispose(*state, std::move(removal));
  }
  remove_retired();
}

void GpuPromoter::remove_retired() {
  for (const tiers::GpuSlabView& slab : services_.gpu->remove_retired()) {
    if (services_.listener != nullptr) {
      services_.listener->on_slab_removed(slab.owner.namespace_id, slab.id);
    }
  }
}

void GpuPromoter::retire_all(const NamespaceState& state) {
  for (const tiers::GpuSlabView& slab : services_.gpu->slabs()) {
    if (slab.owner.namespace_id == state.id) services_.gpu->retire(slab.id);
  }
  remove_retired();
}

// -- the device

void GpuPromoter::relieve_if_due() {
  const auto now = Clock::now();
  if (now < next_look_) return;
  next_look_ = now + kLook;
  relieve();
}

// Others come first: what they miss of the reserve is given back, the least valuable slabs first.
void GpuPromoter::relieve() {
  std::vector<tiers::GpuSlabView> slabs = services_.gpu->slabs();
  std::erase_if(slabs, &tiers::GpuSlabView::retiring);
  if (slabs.empty()) return;
  const Result<std::uint64_t> missing = services_.gpu->shortage();
  if (!missing) return give_up(missing.error());
  if (*missing == 0) return;
  std::unordered_map<tiers::SlabId, Worth> worth = worth_of_slabs(services_);
  std::ranges::sort(slabs, {},
                    [&](const tiers::GpuSlabView& slab) { return worth[slab.id].mean(); });
  std::uint64_t given = 0;
  std::size_t count = 0;
  for (; count < slabs.size() && given < *missing; ++count) {
    given += slabs[count].bytes;
    retire(slabs[count]);
  }
  spdlog::info("the GPU is short of {} bytes of memory: its tier gives {} slabs back", *missing,
               count);
}

void GpuPromoter::give_up(const Error& error) {
  if (std::exchange(lost_, true)) return;
  services_.metrics.gpu_errors.add();
  spdlog::error("the GPU tier is off until the daemon starts again: {}", error.message);
  for (const tiers::GpuSlabView& slab : services_.gpu->slabs()) retire(slab);
}

}  // namespace kvfs::store
