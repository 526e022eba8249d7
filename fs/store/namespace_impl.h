// NamespaceImpl: a namespace as the mount sees it.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "fs/store/layout_cache.h"
#include "fs/store/lease_impl.h"
#include "fs/store/namespace_state.h"
#include "fs/store/prefetches.h"
#include "fs/store/reservation_impl.h"
#include "fs/store/store.h"

namespace kvfs::store {

// namespace_impl.cc has what uses and changes it, namespace_listing.cc what finds and lists,
// namespace_eviction.cc what evicts.
class NamespaceImpl final : public Namespace {
 public:
  explicit NamespaceImpl(NamespacePtr state);

  [[nodiscard]] const NamespacePtr& state() const { return state_; }
  // name() gives a reference that a rename would change; this does not.
  [[nodiscard]] std::string current_name() const;
  void rename(std::string_view name);  // the journal has it already

  [[nodiscard]] std::uint32_t id() const override { return state_->id; }
  [[nodiscard]] const std::string& name() const override;
  [[nodiscard]] const Geometry& geometry() const override { return state_->geometry; }
  [[nodiscard]] Ownership ownership() const override;
  Status set_ownership(const Ownership& ownership) override;
  [[nodiscard]] std::uint32_t created_at() const override { return state_->created_at; }

  [[nodiscard]] IndexFile index_file() const override;
  [[nodiscard]] std::vector<SlabInfo> slabs() const override;
  [[nodiscard]] Result<int> slab_fd(std::uint32_t slab) const override;
  [[nodiscard]] Result<gpu::SharedHandle> gpu_slab(std::uint32_t slab) const override;
  void count_slab_open(std::uint32_t slab, int delta) override;
  Result<std::uint64_t> provide(std::uint64_t bytes) override;

  [[nodiscard]] std::optional<PrefixInfo> find(const Key& key) const override;
  [[nodiscard]] bool contains(const Key& key) const override;
  [[nodiscard]] std::uint32_t match(std::span<const Key> keys) const override;
  void list(std::uint64_t cookie, std::size_t max, std::vector<PrefixEntry>& out) const override;
  void tree(std::uint64_t cookie, std::size_t max,
            std::vector<std::pair<PrefixInfo, std::uint64_t>>& out) const override;
  [[nodiscard]] Result<std::vector<Token>> tokens(const Key& key) const override;
  [[nodiscard]] NamespaceStats stats() const override;

  Result<std::unique_ptr<Lease>> lease(const Key& key, bool quiet) override;
  void report_missed(std::uint64_t blocks) override { state_->metrics.missed_blocks.add(blocks); }
  void report_loaded(std::uint64_t bytes, std::uint64_t gpu_bytes) override {
    state_->count_loaded(bytes);
    state_->count_loaded_from_gpu(gpu_bytes);
  }
  std::unique_ptr<Reservation> reserve() override;
  Result<std::unique_ptr<Reservation>> join(std::uint64_t reservation_id) override;
  Status prefetch(const Key& key) override;

  Result<Evicted> evict(const Key& key) override;
  Result<Evicted> evict_bytes(std::string_view tier, std::uint64_t bytes) override;
  Result<Evicted> evict_all() override;
  Status set_pinned(const Key& key, bool pinned) override;
  Status set_label(const Key& key, std::string_view label) override;
  Status touch(const Key& key) override;
  Status add_name(std::string_view name, const Key& key, bool replace) override;
  Status remove_name(std::string_view name) override;
  Status rename_name(std::string_view from, std::string_view to) override;
  [[nodiscard]] std::optional<Key> name(std::string_view name) const override;
  void names(std::uint64_t cookie, std::size_t max, std::vector<NameEntry>& out) const override;
  [[nodiscard]] std::vector<std::string> names_of(const Key& key) const override;

  Result<Verified> verify(std::uint64_t cursor, std::uint64_t limit) override;
  void flush(Deadline deadline, Done done) override;

  // Removes every block, pinned or not; for the removal of the namespace.
  Evicted drop_all();

 private:
  [[nodiscard]] Error not_cached(const Key& key) const REQUIRES(state_->mutex);
  [[nodiscard]] Error no_such_slab(std::uint32_t slab) const;
  Result<std::unique_ptr<LeaseImpl>> take_lease(const Key& key, bool quiet);
  [[nodiscard]] bool usable(std::span<const BlockId> chain) const REQUIRES(state_->mutex);
  [[nodiscard]] PrefixInfo info(BlockId tip) const REQUIRES(state_->mutex);
  [[nodiscard]] BlockId branch_above(BlockId id) const REQUIRES(state_->mutex);
  Result<Evicted> finish_eviction(Evicted evicted, Removal removal);
  // Whether its next load from a GPU could do without the link.
  [[nodiscard]] bool wanted_on_gpu(BlockId tip) const REQUIRES(state_->mutex);
  // Submits under the lock, so that no erasure can come before, then unlocks it and waits.
  Status journal(std::vector<JournalOp> ops, MutexLock& lock, bool after_sync = false)
      REQUIRES(state_->mutex);

  const NamespacePtr state_;
  const std::shared_ptr<Prefetches> prefetches_ = std::make_shared<Prefetches>();
  mutable LayoutCache layouts_;
  Mutex reservations_mutex_;  // lock order: not held with any other
  std::unordered_map<std::uint64_t, std::weak_ptr<ReservationState>> reservations_
      GUARDED_BY(reservations_mutex_);
};

}  // namespace kvfs::store
