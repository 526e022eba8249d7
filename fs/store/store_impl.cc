#include "fs/store/store_impl.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "fs/store/recovery.h"

namespace kvfs::store {
namespace {

constexpr std::string_view kNextNamespace = "next_namespace_id";

}  // namespace

std::shared_ptr<Namespace> StoreImpl::find_namespace(std::string_view name) const {
  return registry_.find(name);
}
std::shared_ptr<Namespace> StoreImpl::find_namespace(std::uint32_t id) const {
  return registry_.find(id);
}
std::vector<std::shared_ptr<Namespace>> StoreImpl::namespaces() const {
  std::vector<std::shared_ptr<Namespace>> all;
  for (auto& one : registry_.all()) all.push_back(one);
  std::ranges::sort(all, {}, [](const auto& one) { return one->name(); });
  return all;
}

Status StoreImpl::check_new(std::string_view name, const Geometry& geometry) const {
  if (Status valid = check_name(name); !valid) return valid;
  if (Status valid = validate(geometry); !valid) return valid;
  for (std::size_t g = 0; g < geometry.groups.size(); ++g) {
    if (geometry.slot_bytes(g) <= services_.dram->slab_bytes()) continue;
    return fail(
        Code::kInvalid,
        fmt::format("a block of group {} has {} bytes, a DRAM slab {}: use fewer tokens a block "
                    "or raise the slab size",
                    g, geometry.slot_bytes(g), services_.dram->slab_bytes()));
  }
  return {};
}

// Never one that was used before: inode numbers and clients' caches are made of it.
Result<std::uint32_t> StoreImpl::next_namespace_id() {
  std::uint32_t next = 1;
  Status read = services_.journal->database().for_each(
      JournalTable::kMeta, kNextNamespace,
      [&](std::string_view key, std::span<const std::byte> value) {
        if (key == kNextNamespace) {
          next = static_cast<std::uint32_t>(
              std::stoul(std::string(reinterpret_cast<const char*>(value.data()), value.size())));
        }
        return false;
      });
  if (!read) return pass(std::move(read));
  // What a slow disk has yet to write is not read.
  return std::max(next, last_id_ + 1);
}

namespace {

// Of what the journal says: where the disk is only slow, it is done, and durable later.
bool undone(const Status& status) { return !status && status.error().code != Code::kTimeout; }

// What is gone must not come back with the next start: tried again until it is, or the journal has
// ended. `first` hears of the first try.
void erase(Services& services, std::uint32_t id, Done first = {}) {
  services.journal->erase_namespace(id, [&services, id, first = std::move(first)](Status erased) {
    if (!erased && erased.error().code != Code::kUnavailable) {
      services.timer.after(std::chrono::seconds(1), [&services, id] { erase(services, id); });
    }
    if (first) first(std::move(erased));
  });
}

void announce_retired_slabs(NamespaceState& state) {
  const MutexLock lock(state.mutex);
  state.catalog->announce_retired_slab();
}

}  // namespace

Result<std::pair<std::shared_ptr<Namespace>, bool>> StoreImpl::create_namespace(
    std::string_view name, const Geometry& geometry, const Ownership& ownership) {
  if (Status valid = check_new(name, geometry); !valid) return pass(std::move(valid));
  const MutexLock lock(admin_mutex_);
  if (closed_) return fail(Code::kUnavailable, "the store is closed");
  if (const auto has = registry_.find(name); has != nullptr) {
    const std::string difference = describe_difference(geometry, has->geometry());
    if (difference.empty()) return std::pair{std::shared_ptr<Namespace>(has), false};
    return fail(Code::kMismatch, "namespace " + std::string(name) + " has another geometry: " +
                                     difference + "; use another namespace name");
  }
  const auto id = next_namespace_id();
  if (!id) return tl::unexpected(id.error());
  last_id_ = *id;
  const NamespaceRecord record{.id = *id,
                               .name = std::string(name),
                               .geometry = geometry,
                               .ownership = ownership,
                               .created_at = wall_seconds()};
  auto state = Recovery::make_state(services_, record, 0);
  if (!state) return pass(std::move(state));
  Status durable = services_.journal->commit(
      {{JournalTable::kNamespaces, namespace_key(*id), encode_namespace(record)},
       {JournalTable::kMeta, std::string(kNextNamespace), std::to_string(*id + 1)}});
  if (undone(durable)) {
    state->reset();
    std::error_code ignored;
    std::filesystem::remove_all(Recovery::catalog_directory(services_.options, *id), ignored);
    return pass(std::move(durable));
  }
  auto space = std::make_shared<NamespaceImpl>(*std::move(state));
  registry_.add(space);
  if (!durable) return pass(std::move(durable));
  return std::pair{std::shared_ptr<Namespace>(std::move(space)), true};
}

Status StoreImpl::check_removable(const NamespaceImpl& space, RemoveIf condition) {
  NamespaceState& state = *space.state();
  const MutexLock lock(state.mutex);
  const NamespaceMetrics& metrics = state.metrics;
  if (metrics.leases_open.get() != 0 || metrics.reservations_open.get() != 0) {
    return fail(
        Code::kBusy,
        fmt::format("namespace {} is in use: {} prefixes are open and {} being "
                    "written; close them first",
                    state.name(), metrics.leases_open.get(), metrics.reservations_open.get()));
  }
  if (condition == RemoveIf::kEmpty &&
      (!state.catalog->leaf_list().empty() || !state.names.empty())) {
    return fail(Code::kExists, fmt::format("namespace {} is not empty", state.name()));
  }
  if (condition != RemoveIf::kNotInUse && metrics.pinned.get() != 0) {
    return fail(Code::kBusy,
                fmt::format("namespace {} has {} pinned prefixes: unpin them, or remove it "
                            "with force",
                            state.name(), metrics.pinned.get()));
  }
  state.removed = true;
  return {};
}

Result<Evicted> StoreImpl::remove_namespace(std::string_view name, RemoveIf condition) {
  std::uint32_t id = 0;
  Evicted evicted;
  {
    const MutexLock lock(admin_mutex_);
    const auto space = registry_.find(name);
    if (space == nullptr) {
      return fail(Code::kNotFound, "there is no namespace " + std::string(name));
    }
    if (Status removable = check_removable(*space, condition); !removable) {
      return pass(std::move(removable));
    }
    id = space->id();
    evicted = space->drop_all();
    Status durable =
        services_.journal->wait([&](Done done) { erase(services_, id, std::move(done)); });
    registry_.erase(id);
    slab_mover_->retire_all(*space->state());
    if (gpu_promoter_ != nullptr) gpu_promoter_->retire_all(*space->state());
    announce_retired_slabs(*space->state());  // to clients that map them still
    std::error_code ignored;
    std::filesystem::remove_all(Recovery::catalog_directory(services_.options, id), ignored);
    if (!durable) return pass(std::move(durable));
  }
  if (services_.listener != nullptr) services_.listener->on_namespace_removed(id);
  return evicted;
}

Status StoreImpl::rename_namespace(std::string_view from, std::string_view to) {
  if (Status valid = check_name(to); !valid) return valid;
  const MutexLock lock(admin_mutex_);
  const auto space = registry_.find(from);
  if (space == nullptr) return fail(Code::kNotFound, "there is no namespace " + std::string(from));
  if (from == to) return {};
  if (registry_.find(to) != nullptr) {
    return fail(Code::kExists, "there is a namespace " + std::string(to) + " already");
  }
  NamespaceRecord record;
  {
    const MutexLock state_lock(space->state()->mutex);
    record = space->state()->record();
  }
  record.name = to;
  Status durable = services_.journal->commit(
      {{JournalTable::kNamespaces, namespace_key(record.id), encode_namespace(record)}});
  if (!undone(durable)) space->rename(to);
  return durable;
}

void StoreImpl::flush(Deadline deadline, Done done) {
  struct Together {
    Mutex mutex;
    std::size_t left GUARDED_BY(mutex);
    Status first_error GUARDED_BY(mutex);
    Done done;
  };
  const auto spaces = registry_.all();
  const auto together = std::make_shared<Together>();
  {
    const MutexLock lock(together->mutex);
    together->left = spaces.size() + 1;
  }
  together->done = std::move(done);
  const auto one_less = [together](Status status) {
    Status result;
    {
      const MutexLock lock(together->mutex);
      if (!status && together->first_error) together->first_error = std::move(status);
      if (--together->left != 0) return;
      result = std::move(together->first_error);
    }
    together->done(std::move(result));
  };
  for (const auto& space : spaces) space->flush(deadline, one_less);
  one_less({});
}

StoreStats StoreImpl::stats() const {
  StoreStats stats;
  stats.dram = {.present = true,
                .capacity = services_.dram->capacity(),
                .used = services_.dram->used_bytes(),
                .reserved = services_.dram->owned_bytes()};
  if (services_.nvme != nullptr) {
    const tiers::TierUsage usage = services_.nvme->usage();
    stats.nvme = {.present = true,
                  .capacity = usage.capacity,
                  .used = usage.used,
                  .reserved = usage.reserved,
                  .bytes_in = usage.bytes_written,
                  .bytes_out = usage.bytes_read,
                  .errors = usage.errors,
                  .queued = usage.queued};
  }
  const StoreMetrics& counted = services_.metrics;
  if (services_.gpu != nullptr) {
    stats.gpu = {.present = true,
                 .capacity = services_.gpu->capacity(),
                 .used = services_.gpu->used_bytes(),
                 .reserved = services_.gpu->reserved_bytes(),
                 .bytes_in = counted.gpu_bytes_in.get(),
                 .bytes_out = counted.gpu_bytes_out.get(),
                 .errors = counted.gpu_errors.get(),
                 .queued = gpu_promoter_->queued()};
  }
  for (const NamespacePtr& state : registry_.states()) {
    const NamespaceMetrics& metrics = state->metrics;
    stats.gpu.blocks += metrics.gpu_blocks.get();
    stats.dram.blocks += metrics.dram_blocks.get();
    stats.nvme.blocks += metrics.nvme_blocks.get();
  }
  stats.dram.bytes_in = counted.dram_bytes_in.get();
  stats.dram.bytes_out = counted.dram_bytes_out.get();
  stats.dirty_bytes = counted.dirty_bytes.get();
  stats.writeback_backlog = services_.options.writeback_backlog;
  stats.quarantined_bytes = counted.quarantined_bytes.get();
  stats.lease_latency = counted.lease_latency.snapshot();
  stats.reserve_latency = counted.reserve_latency.snapshot();
  stats.commit_latency = counted.commit_latency.snapshot();
  stats.promote_latency = counted.promote_latency.snapshot();
  stats.writeback_latency = counted.writeback_latency.snapshot();
  stats.uptime_seconds = std::chrono::duration<double>(Clock::now() - started_).count();
  return stats;
}

}  // namespace kvfs::store
