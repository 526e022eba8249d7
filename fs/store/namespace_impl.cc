#include "fs/store/namespace_impl.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "fs/store/await.h"
#include "fs/store/dram_space.h"
#include "fs/store/flush.h"
#include "fs/store/gpu_promoter.h"
#include "fs/store/promoter.h"
#include "fs/store/slab_mover.h"
#include "fs/store/verifier.h"
#include "lib/format/json_text.h"

namespace kvfs::store {
namespace {

// Of a slab of DRAM or of a GPU.
SlabInfo info_of(const auto& slab) {
  return {.id = slab.id,
          .group = slab.owner.group,
          .bytes = slab.bytes,
          .slot_bytes = slab.slot_bytes,
          .slots = slab.slots,
          .retiring = slab.retiring ? 1U : 0U};
}

// Not guessable: an id is all that a process needs to write into another's reservation.
std::uint64_t new_reservation_id() {
  static thread_local std::random_device random;
  return std::uint64_t{random()} << 32 | random();
}

}  // namespace

NamespaceImpl::NamespaceImpl(NamespacePtr state)
    : state_(std::move(state)), layouts_(state_->geometry) {}

Error NamespaceImpl::not_cached(const Key& key) const {
  return {Code::kNotFound, "prefix " + to_hex(key) + " is not cached in namespace " +
                               state_->name() + " (any more)"};
}

Status NamespaceImpl::journal(std::vector<JournalOp> ops, MutexLock& lock, bool after_sync) {
  return state_->services.journal->wait([&](Done done) NO_THREAD_SAFETY_ANALYSIS {
    state_->services.journal->submit(
        {.ops = std::move(ops), .after_sync = after_sync, .done = std::move(done)});
    lock.unlock();
  });
}

// -- itself

std::string NamespaceImpl::current_name() const {
  const MutexLock lock(state_->mutex);
  return state_->name();
}

void NamespaceImpl::rename(std::string_view name) {
  const MutexLock lock(state_->mutex);
  state_->name_history.emplace_back(name);
}

const std::string& NamespaceImpl::name() const {
  const MutexLock lock(state_->mutex);
  return state_->name();
}

Ownership NamespaceImpl::ownership() const {
  const MutexLock lock(state_->mutex);
  return state_->ownership;
}

Status NamespaceImpl::set_ownership(const Ownership& ownership) {
  MutexLock lock(state_->mutex);
  // A record behind that of its removal would bring it back.
  if (Status there = state_->is_there(); !there) return there;
  state_->ownership = ownership;
  return journal(
      {{JournalTable::kNamespaces, namespace_key(id()), encode_namespace(state_->record())}}, lock);
}

NamespaceImpl::IndexFile NamespaceImpl::index_file() const {
  const MutexLock lock(state_->mutex);
  const Catalog& catalog = *state_->catalog;
  return {catalog.index_fd(), catalog.index_bytes(), catalog.generation()};
}

std::vector<SlabInfo> NamespaceImpl::slabs() const {
  std::vector<SlabInfo> infos;
  for (const tiers::SlabView& slab : state_->services.dram->slabs()) {
    if (slab.owner.namespace_id == id()) infos.push_back(info_of(slab));
  }
  std::ranges::sort(infos, {}, &SlabInfo::id);
  if (state_->services.gpu == nullptr) return infos;
  for (const tiers::GpuSlabView& slab : state_->services.gpu->slabs()) {  // of higher ids
    if (slab.owner.namespace_id == id()) infos.push_back(info_of(slab));
  }
  return infos;
}

Error NamespaceImpl::no_such_slab(std::uint32_t slab) const {
  return {Code::kNotFound, fmt::format("slab {} is not of namespace {}", slab, current_name())};
}

Result<int> NamespaceImpl::slab_fd(std::uint32_t slab) const {
  auto view = state_->services.dram->slab(slab);
  if (!view) return pass(std::move(view));
  if (view->owner.namespace_id != id()) return tl::unexpected(no_such_slab(slab));
  return view->fd;
}

Result<gpu::SharedHandle> NamespaceImpl::gpu_slab(std::uint32_t slab) const {
  if (state_->services.gpu != nullptr) {
    for (const tiers::GpuSlabView& one : state_->services.gpu->slabs()) {
      if (one.id == slab && one.owner.namespace_id == id()) {
        return state_->services.gpu->handle(slab);
      }
    }
  }
  return tl::unexpected(no_such_slab(slab));
}

void NamespaceImpl::count_slab_open(std::uint32_t slab, int delta) {
  if (slab >= kFirstGpuSlab) {
    if (state_->services.gpu == nullptr) return;
    state_->services.gpu->count_open(slab, delta);
    if (delta < 0 && state_->services.gpu->retiring(slab)) {
      state_->services.gpu_promoter->remove_retired();
    }
    return;
  }
  state_->services.dram->count_open(slab, delta);
  if (delta >= 0) return;
  const auto view = state_->services.dram->slab(slab);
  if (view && view->retiring) state_->services.slab_mover->remove_retired();
}

Result<std::uint64_t> NamespaceImpl::provide(std::uint64_t bytes) {
  return state_->services.dram_space->provide(*state_, bytes);
}

NamespaceStats NamespaceImpl::stats() const {
  NamespaceStats stats;
  {
    const MutexLock lock(state_->mutex);
    stats.name = state_->name();
    stats.blocks = state_->catalog->blocks();
    stats.prefixes = state_->catalog->leaf_list().size();
    stats.metadata_bytes = state_->catalog->memory_bytes();
  }
  const NamespaceMetrics& metrics = state_->metrics;
  stats.gpu_blocks = metrics.gpu_blocks.get();
  stats.gpu_bytes = metrics.gpu_bytes.get();
  stats.dram_blocks = metrics.dram_blocks.get();
  stats.nvme_blocks = metrics.nvme_blocks.get();
  stats.dram_bytes = metrics.dram_bytes.get();
  stats.nvme_bytes = metrics.nvme_bytes.get();
  stats.hit_blocks = metrics.hit_blocks.get();
  stats.missed_blocks = metrics.missed_blocks.get();
  stats.leases_total = metrics.leases_total.get();
  stats.commits_total = metrics.commits_total.get();
  stats.committed_blocks = metrics.committed_blocks.get();
  stats.lost_races = metrics.lost_races.get();
  stats.unpackable_blocks = metrics.unpackable_blocks.get();
  stats.largest_error = metrics.largest_error.get();
  stats.saturated_planes = metrics.saturated_planes.get();
  stats.leases_open = metrics.leases_open.get();
  stats.reservations_open = metrics.reservations_open.get();
  stats.pinned = metrics.pinned.get();
  stats.loaded_bytes = metrics.loaded_bytes.get();
  stats.stored_bytes = metrics.stored_bytes.get();
  stats.promoted_bytes = metrics.promoted_bytes.get();
  stats.written_back_bytes = metrics.written_back_bytes.get();
  stats.evictions = {.capacity = metrics.evicted_capacity.get(),
                     .dirty = metrics.evicted_dirty.get(),
                     .demoted = metrics.evicted_demoted.get(),
                     .removed = metrics.evicted_removed.get(),
                     .corrupt = metrics.evicted_corrupt.get(),
                     .io_error = metrics.evicted_io_error.get(),
                     .slab_moved = metrics.evicted_slab_moved.get(),
                     .gpu = metrics.evicted_gpu.get()};
  return stats;
}

// -- using

// A windowed group must have the blocks of the window at the prefix's end.
bool NamespaceImpl::usable(std::span<const BlockId> chain) const {
  for (std::uint32_t g = 0; g < state_->groups; ++g) {
    const std::uint32_t window = state_->geometry.window_blocks(g);
    if (window == 0) continue;
    for (const BlockId id : chain.last(std::min<std::size_t>(window, chain.size()))) {
      if ((state_->catalog->groups(id) >> g & 1U) == 0) return false;
    }
  }
  return true;
}

bool NamespaceImpl::wanted_on_gpu(BlockId tip) const {
  if (state_->services.gpu_promoter == nullptr) return false;
  if (state_->catalog->node(tip).hits < GpuPromoter::kHits) return false;
  for (std::uint32_t g = 0; g < state_->groups; ++g) {
    if (!state_->on_gpu.contains({tip, g})) return true;
  }
  return false;
}

Result<std::unique_ptr<LeaseImpl>> NamespaceImpl::take_lease(const Key& key, bool quiet) {
  const auto start = Clock::now();
  std::vector<BlockId> chain;
  bool hot = false;
  {
    const MutexLock lock(state_->mutex);
    const BlockId tip = state_->catalog->find(key);
    if (tip == kNoBlock || state_->removed) return tl::unexpected(not_cached(key));
    state_->catalog->chain(tip, chain);
    if (!usable(chain)) return tl::unexpected(not_cached(key));
    state_->hold(chain);
    state_->metrics.leases_open.add();
    if (!quiet) {
      state_->catalog->count_hit(chain, wall_seconds());
      hot = wanted_on_gpu(tip);
    }
  }
  if (hot) state_->services.gpu_promoter->want(state_, key);
  const auto blocks = static_cast<std::uint32_t>(chain.size());
  if (!quiet) state_->metrics.hit_blocks.add(blocks);
  state_->metrics.leases_total.add();
  auto lease = std::make_unique<LeaseImpl>(state_, key, std::move(chain), layouts_.get(blocks));
  state_->services.metrics.lease_latency.observe(Clock::now() - start);
  return lease;
}

Result<std::unique_ptr<Lease>> NamespaceImpl::lease(const Key& key, bool quiet) {
  return take_lease(key, quiet);
}

std::unique_ptr<Reservation> NamespaceImpl::reserve() {
  auto shared = std::make_shared<ReservationState>(state_, new_reservation_id());
  const MutexLock lock(reservations_mutex_);
  // The dead are swept when there may be as many of them as living ones.
  if (reservations_.size() >= 2 * state_->metrics.reservations_open.get() + 16) {
    std::erase_if(reservations_, [](const auto& entry) { return entry.second.expired(); });
  }
  reservations_.emplace(shared->id(), shared);
  return std::make_unique<ReservationImpl>(std::move(shared));
}

Result<std::unique_ptr<Reservation>> NamespaceImpl::join(std::uint64_t reservation_id) {
  std::shared_ptr<ReservationState> shared;
  {
    const MutexLock lock(reservations_mutex_);
    const auto at = reservations_.find(reservation_id);
    if (at != reservations_.end()) shared = at->second.lock();
  }
  if (shared == nullptr) {
    return fail(Code::kNotFound,
                fmt::format("there is no reservation {} in namespace {} (any more)", reservation_id,
                            current_name()));
  }
  return std::make_unique<ReservationImpl>(std::move(shared));
}

Status NamespaceImpl::prefetch(const Key& key) {
  auto held = take_lease(key, true);
  if (!held) return pass(std::move(held));
  prefetches_->begin(*std::move(held));
  return {};
}

void NamespaceImpl::flush(Deadline deadline, Done done) {
  flush_all(*state_, deadline, std::move(done));
}

Result<NamespaceImpl::Verified> NamespaceImpl::verify(std::uint64_t cursor, std::uint64_t limit) {
  return Verifier(*state_).verify(cursor, limit);
}

// -- changing

// A pin is in the block's record; a block that has none yet takes it along with its first.
Status NamespaceImpl::set_pinned(const Key& key, bool pinned) {
  Removal removal;
  Status durable;
  {
    MutexLock lock(state_->mutex);
    const BlockId id = state_->catalog->find(key);
    if (id == kNoBlock) return tl::unexpected(not_cached(key));
    if (state_->pinned(id) == pinned) return {};
    if (pinned) {
      state_->pin(id);
    } else {
      state_->unpin(id, removal);
    }
    const auto write = state_->writes.find(id);
    const bool submitted =
        write != state_->writes.end() && write->second.state == BlockWrite::State::kSubmitted;
    if (submitted) write->second.changed_after = true;
    if (state_->journaled(id) || submitted) {
      durable = journal({state_->journal_record(id, submitted ? &write->second : nullptr)}, lock,
                        submitted);
    }
  }
  dispose(*state_, std::move(removal));
  return durable;
}

Status NamespaceImpl::set_label(const Key& key, std::string_view label) {
  if (label.size() > Names::kMaxLabelBytes) {
    return fail(Code::kInvalid, fmt::format("a label has at most {} bytes, not {}",
                                            Names::kMaxLabelBytes, label.size()));
  }
  if (!is_utf8(label)) return fail(Code::kInvalid, "a label is UTF-8");
  MutexLock lock(state_->mutex);
  if (state_->catalog->find(key) == kNoBlock) return tl::unexpected(not_cached(key));
  state_->names.set_label(key, label);
  JournalOp op{JournalTable::kLabels, label_key(id(), key), std::nullopt};
  if (!label.empty()) op.value = std::string(label);
  return journal({std::move(op)}, lock);
}

Status NamespaceImpl::touch(const Key& key) {
  const MutexLock lock(state_->mutex);
  const BlockId id = state_->catalog->find(key);
  if (id == kNoBlock) return tl::unexpected(not_cached(key));
  state_->catalog->touch(id, wall_seconds());
  return {};
}

Status NamespaceImpl::add_name(std::string_view name, const Key& key, bool replace) {
  if (Status valid = check_name(name); !valid) return valid;
  MutexLock lock(state_->mutex);
  const std::optional<Key> has = state_->names.find(name);
  if (has == key) return {};
  if (has && !replace) {
    return fail(Code::kExists, "the name '" + std::string(name) + "' is taken by " + to_hex(*has));
  }
  if (state_->catalog->find(key) == kNoBlock) return tl::unexpected(not_cached(key));
  state_->names.set(name, key);
  return journal({{JournalTable::kNames, name_key(id(), name),
                   std::string(reinterpret_cast<const char*>(&key), sizeof key)}},
                 lock);
}

Status NamespaceImpl::remove_name(std::string_view name) {
  MutexLock lock(state_->mutex);
  if (!state_->names.erase(name)) {
    return fail(Code::kNotFound, "there is no name '" + std::string(name) + "'");
  }
  return journal({{JournalTable::kNames, name_key(id(), name), std::nullopt}}, lock);
}

Status NamespaceImpl::rename_name(std::string_view from, std::string_view to) {
  if (Status valid = check_name(to); !valid) return valid;
  MutexLock lock(state_->mutex);
  if (Status there = state_->is_there(); !there) return there;
  const std::optional<Key> key = state_->names.find(from);
  if (!key) return fail(Code::kNotFound, "there is no name '" + std::string(from) + "'");
  if (from == to) return {};
  state_->names.erase(from);
  state_->names.set(to, *key);
  return journal({{JournalTable::kNames, name_key(id(), from), std::nullopt},
                  {JournalTable::kNames, name_key(id(), to),
                   std::string(reinterpret_cast<const char*>(&*key), sizeof *key)}},
                 lock);
}

std::optional<Key> NamespaceImpl::name(std::string_view name) const {
  const MutexLock lock(state_->mutex);
  return state_->names.find(name);
}

void NamespaceImpl::names(std::uint64_t cookie, std::size_t max,
                          std::vector<NameEntry>& out) const {
  const MutexLock lock(state_->mutex);
  state_->names.list(cookie, max, out);
}

std::vector<std::string> NamespaceImpl::names_of(const Key& key) const {
  const MutexLock lock(state_->mutex);
  return state_->names.of(key);
}

}  // namespace kvfs::store
