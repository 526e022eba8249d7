#include "fs/tiers/dram_tier.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <optional>
#include <utility>

#include "fs/mutex.h"
#include "fs/tiers/dram_directory.h"
#include "fs/tiers/slab_file.h"
#include "fs/tiers/slab_pool.h"
#include "fs/tiers/slab_record.h"
#include "fs/tiers/slot_addresses.h"
#include "fs/tiers/slot_bitmap.h"

namespace kvfs::tiers {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kMaxSlabBytes = std::uint64_t{1} << 30;
// So long its owner may use a slab again whose last slot was freed: clients let go of slabs, and
// ask again for room that was not there yet, about once a second.
constexpr std::chrono::seconds kKept{5};

// A slab with an owner.
struct Slab {
  SlabId id;
  SlabOwner owner;
  std::uint64_t slot_bytes;
  SlotBitmap slots;
  std::shared_ptr<SlabFile> file;
  std::uint32_t opens = 0;
  bool survivor = false;  // of an earlier daemon, until forget_survivors()
  bool retiring = false;
  bool going = false;  // remove() is at it, outside the lock
  Clock::time_point kept_until{};

  [[nodiscard]] bool allocatable() const { return !survivor && !retiring && slots.free() > 0; }
  [[nodiscard]] SlabView view() const {
    return {.id = id,
            .owner = owner,
            .bytes = file->bytes(),
            .slot_bytes = slot_bytes,
            .slots = slots.size(),
            .used = slots.used(),
            .opens = opens,
            .retiring = retiring,
            .fd = file->fd(),
            .base = file->base()};
  }
};

std::uint64_t default_slab_bytes(std::uint64_t capacity) {
  return std::clamp(capacity / 16 / kHugePage * kHugePage, kHugePage, kMaxSlabBytes);
}

Status check_slot(std::uint64_t slot_bytes, std::uint64_t slab_bytes) {
  if (slot_bytes != 0 && slot_bytes % kSlotAlignment == 0 && slot_bytes <= slab_bytes) return {};
  return fail(Code::kInvalid,
              fmt::format("slots of {} bytes do not fit slabs of {} bytes: they must be a multiple "
                          "of {}, and at most one slab; raise the slab size",
                          slot_bytes, slab_bytes, kSlotAlignment));
}

Status check(const DramOptions& options, std::uint64_t slab_bytes) {
  if (slab_bytes == 0 || slab_bytes % kHugePage != 0) {
    return fail(Code::kInvalid,
                fmt::format("DRAM slab size {} is not a multiple of 2 MiB; give one "
                            "that is, or 0 to have it chosen",
                            slab_bytes));
  }
  if (options.capacity < slab_bytes) {
    return fail(Code::kInvalid,
                fmt::format("DRAM capacity {} is less than one slab of {}; raise the capacity or "
                            "lower the slab size",
                            options.capacity, slab_bytes));
  }
  return {};
}

// One above what they have; an id out of range was never given.
SlabId id_after(std::span<const FoundSlab> found) {
  SlabId next = 0;
  for (const FoundSlab& slab : found) {
    if (slab.id < SlotAddresses::kMaxSlabs) next = slab.id + 1;
  }
  return next;
}

}  // namespace

struct DramTier::Impl {
  DramOptions options;
  std::uint64_t slab_bytes = 0;
  DramDirectory directory;
  SlotAddresses addresses;
  std::optional<SlabPool> pool;  // from open() on

  mutable Mutex mutex;  // lock order: this -> the pool's
  std::map<SlabId, Slab> slabs GUARDED_BY(mutex);
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::vector<Slab*>> by_owner GUARDED_BY(mutex);
  std::uint64_t used GUARDED_BY(mutex) = 0;  // bytes of slots handed out

  static std::pair<std::uint32_t, std::uint32_t> key(SlabOwner owner) {
    return {owner.namespace_id, owner.group};
  }

  Slab* find(SlabId id) REQUIRES(mutex) {
    const auto at = slabs.find(id);
    return at == slabs.end() || at->second.going ? nullptr : &at->second;
  }

  Slab& adopt(SlabId id, std::shared_ptr<SlabFile> file, SlabOwner owner, std::uint64_t slot_bytes)
      REQUIRES(mutex) {
    const auto slots = static_cast<std::uint32_t>(file->bytes() / slot_bytes);
    addresses.set(id, file->base(), slot_bytes);
    Slab& slab = slabs
                     .emplace(id, Slab{.id = id,
                                       .owner = owner,
                                       .slot_bytes = slot_bytes,
                                       .slots = SlotBitmap(slots),
                                       .file = std::move(file)})
                     .first->second;
    by_owner[key(owner)].push_back(&slab);
    return slab;
  }

  void disown(const Slab& slab) REQUIRES(mutex) {
    auto& owned = by_owner[key(slab.owner)];
    std::erase(owned, &slab);
    if (owned.empty()) by_owner.erase(key(slab.owner));
    addresses.clear(slab.id);
  }

  // nullptr: the pool is empty.
  Result<Slab*> own_pooled(SlabOwner owner, std::uint64_t slot_bytes) REQUIRES(mutex) {
    auto slab = pool->take();
    if (!slab) return nullptr;
    auto written = write_slab_record(
        directory.fd(), slab->id,
        {.owner = owner, .slot_bytes = slot_bytes, .slab_bytes = slab->file->bytes()});
    if (!written) {
      pool->put(*std::move(slab));
      return pass(std::move(written));
    }
    return &adopt(slab->id, std::move(slab->file), owner, slot_bytes);
  }

  std::size_t hand_out(const Slab& slab, SlotRun run, std::span<DramSlot> out) REQUIRES(mutex) {
    for (std::uint32_t i = 0; i < run.count; ++i) out[i] = {slab.id, run.first + i};
    used += run.count * slab.slot_bytes;
    return run.count;
  }

  // From slabs the owner has: one run for all if there is one, else whatever is free.
  Result<std::size_t> allocate_owned(SlabOwner owner, std::uint64_t slot_bytes,
                                     std::span<DramSlot> out) REQUIRES(mutex);
  void take_survivors(std::vector<FoundSlab> found) EXCLUDES(mutex);
  Status discard(SlabId id) EXCLUDES(mutex);
};

Result<std::size_t> DramTier::Impl::allocate_owned(SlabOwner owner, std::uint64_t slot_bytes,
                                                   std::span<DramSlot> out) {
  const auto owned = by_owner.find(key(owner));
  if (owned == by_owner.end()) return std::size_t{0};
  const std::uint64_t has = owned->second.front()->slot_bytes;
  if (has != slot_bytes) {
    return fail(Code::kInvalid, fmt::format("namespace {} group {} has slots of {} bytes, not {}",
                                            owner.namespace_id, owner.group, has, slot_bytes));
  }
  const auto want = static_cast<std::uint32_t>(out.size());
  for (Slab* slab : owned->second) {
    if (!slab->allocatable()) continue;
    if (const SlotRun run = slab->slots.take_run(want); run.count != 0) {
      return hand_out(*slab, run, out);
    }
  }
  std::size_t filled = 0;
  for (Slab* slab : owned->second) {
    while (filled < out.size() && slab->allocatable()) {
      const SlotRun run = slab->slots.take_some(static_cast<std::uint32_t>(out.size() - filled));
      filled += hand_out(*slab, run, out.subspan(filled));
    }
  }
  return filled;
}

// Those that do not fit the budget any more, or whose record cannot be believed, go at once.
void DramTier::Impl::take_survivors(std::vector<FoundSlab> found) {
  const MutexLock lock(mutex);
  for (FoundSlab& slab : found) {
    const std::uint64_t bytes = slab.file->bytes();
    const bool pooled = !slab.record && bytes == slab_bytes;
    const bool believable =
        pooled || (slab.record && slab.record->slab_bytes == bytes &&
                   slab.record->slot_bytes != 0 && slab.record->slot_bytes <= bytes);
    if (!believable || slab.id >= SlotAddresses::kMaxSlabs || !pool->count(bytes)) {
      spdlog::info("DRAM slab {} of an earlier run does not fit this one: removed", slab.id);
      ignore_error(slab.file->discard(), "it is tried again at the next start");
      remove_slab_record(directory.fd(), slab.id);
    } else if (pooled) {
      pool->put({slab.id, std::move(slab.file)});
    } else {
      adopt(slab.id, std::move(slab.file), slab.record->owner, slab.record->slot_bytes).survivor =
          true;
    }
  }
}

// Of a slab marked `going`; without the lock: freeing a slab's pages takes a while.
Status DramTier::Impl::discard(SlabId id) {
  std::shared_ptr<SlabFile> file;
  {
    const MutexLock lock(mutex);
    file = slabs.at(id).file;
  }
  Status discarded = file->discard();
  remove_slab_record(directory.fd(), id);
  const std::uint64_t bytes = file->bytes();
  file.reset();
  const MutexLock lock(mutex);
  disown(slabs.at(id));
  slabs.erase(id);
  pool->gone(bytes);
  return discarded;
}

DramTier::DramTier(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DramTier::~DramTier() = default;

Result<std::unique_ptr<DramTier>> DramTier::open(const DramOptions& options) {
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  impl->slab_bytes =
      options.slab_bytes != 0 ? options.slab_bytes : default_slab_bytes(options.capacity);
  if (auto valid = check(options, impl->slab_bytes); !valid) return pass(std::move(valid));

  auto directory = DramDirectory::open(options.directory);
  if (!directory) return pass(std::move(directory));
  impl->directory = *std::move(directory);
  auto found = impl->directory.scan();
  if (!found) return pass(std::move(found));
  impl->pool.emplace(impl->directory, options.capacity, impl->slab_bytes, id_after(*found));
  impl->take_survivors(*std::move(found));

  const std::uint64_t missing = impl->pool->missing();
  if (auto room = impl->directory.check_room(missing, options.pretouch); !room) {
    return pass(std::move(room));
  }
  if (options.pretouch) {
    if (auto filled = impl->pool->fill(options.progress); !filled) return pass(std::move(filled));
  }
  return std::unique_ptr<DramTier>(new DramTier(std::move(impl)));
}

Status DramTier::claim(DramSlot slot) {
  const MutexLock lock(impl_->mutex);
  Slab* slab = impl_->find(slot.slab);
  if (slab == nullptr || !slab->survivor) {
    return fail(Code::kNotFound, fmt::format("slab {} did not survive", slot.slab));
  }
  if (slot.slot >= slab->slots.size()) {
    return fail(Code::kInvalid, fmt::format("slab {} has {} slots, not {}", slot.slab,
                                            slab->slots.size(), slot.slot + 1));
  }
  if (!slab->slots.take(slot.slot)) {
    return fail(Code::kExists,
                fmt::format("slot {} of slab {} is claimed twice", slot.slot, slot.slab));
  }
  impl_->used += slab->slot_bytes;
  return {};
}

void DramTier::forget_survivors() {
  std::vector<SlabId> unclaimed;
  {
    const MutexLock lock(impl_->mutex);
    for (auto& [id, slab] : impl_->slabs) {
      if (!std::exchange(slab.survivor, false) || slab.slots.used() != 0) continue;
      slab.going = slab.retiring = true;
      unclaimed.push_back(id);
    }
  }
  // Not pooled: clients of the earlier daemon may still map them.
  for (const SlabId id : unclaimed) {
    if (auto gone = impl_->discard(id); !gone) spdlog::warn("{}", gone.error().message);
  }
}

Result<std::size_t> DramTier::allocate(SlabOwner owner, std::uint64_t slot_bytes,
                                       std::span<DramSlot> out) {
  if (Status fits = check_slot(slot_bytes, impl_->slab_bytes); !fits) return pass(std::move(fits));
  if (out.empty()) return std::size_t{0};
  std::size_t filled = 0;
  Status all = impl_->pool->grow_until([&]() -> Result<bool> {
    const MutexLock lock(impl_->mutex);
    auto taken = impl_->allocate_owned(owner, slot_bytes, out.subspan(filled));
    if (!taken) return pass(std::move(taken));
    filled += *taken;
    while (filled < out.size()) {
      const auto slab = impl_->own_pooled(owner, slot_bytes);
      if (!slab) return tl::unexpected(slab.error());
      if (*slab == nullptr) return false;
      const auto want = static_cast<std::uint32_t>(out.size() - filled);
      filled += impl_->hand_out(**slab, (*slab)->slots.take_some(want), out.subspan(filled));
    }
    return true;
  });
  if (!all && filled == 0) return pass(std::move(all));
  return filled;
}

void DramTier::free(DramSlot slot) {
  const MutexLock lock(impl_->mutex);
  Slab* slab = impl_->find(slot.slab);
  if (slab == nullptr || !slab->slots.release(slot.slot)) {
    spdlog::critical("slot {} of DRAM slab {} was freed but is not taken", slot.slot, slot.slab);
    return;
  }
  impl_->used -= slab->slot_bytes;
  if (slab->slots.used() == 0) slab->kept_until = Clock::now() + kKept;
}

Result<std::uint64_t> DramTier::provide(SlabOwner owner, std::uint64_t slot_bytes,
                                        std::uint64_t bytes) {
  if (Status fits = check_slot(slot_bytes, impl_->slab_bytes); !fits) return pass(std::move(fits));
  std::uint64_t has = 0;
  Status all = impl_->pool->grow_until([&]() -> Result<bool> {
    while (true) {
      const MutexLock lock(impl_->mutex);  // for each anew: records are written under it
      has = 0;
      const auto owned = impl_->by_owner.find(Impl::key(owner));
      if (owned != impl_->by_owner.end()) {
        for (const Slab* slab : owned->second) {
          if (!slab->retiring) has += slab->file->bytes();
        }
      }
      if (has >= bytes) return true;
      const auto slab = impl_->own_pooled(owner, slot_bytes);
      if (!slab) return tl::unexpected(slab.error());
      if (*slab == nullptr) return false;
    }
  });
  if (!all && all.error().code != Code::kNoSpace) return pass(std::move(all));
  return has;
}

std::byte* DramTier::address(DramSlot slot) const { return impl_->addresses.of(slot); }

std::vector<SlabView> DramTier::slabs() const {
  const MutexLock lock(impl_->mutex);
  std::vector<SlabView> views;
  views.reserve(impl_->slabs.size());
  for (const auto& [id, slab] : impl_->slabs) {
    if (!slab.going) views.push_back(slab.view());
  }
  return views;
}

Result<SlabView> DramTier::slab(SlabId id) const {
  const MutexLock lock(impl_->mutex);
  const Slab* slab = impl_->find(id);
  if (slab == nullptr) return fail(Code::kNotFound, fmt::format("there is no slab {}", id));
  return slab->view();
}

Status DramTier::retire(SlabId id) {
  const MutexLock lock(impl_->mutex);
  Slab* slab = impl_->find(id);
  if (slab == nullptr) return fail(Code::kNotFound, fmt::format("there is no slab {}", id));
  slab->retiring = true;
  return {};
}

std::optional<SlabView> DramTier::retire_empty(SlabOwner not_of, bool opened_too) {
  const MutexLock lock(impl_->mutex);
  const auto now = Clock::now();
  Slab* found = nullptr;
  for (auto& [id, slab] : impl_->slabs) {
    const bool stays = slab.survivor || slab.retiring || slab.going || slab.owner == not_of;
    if (stays || slab.slots.used() != 0 || slab.kept_until > now) continue;
    if (slab.opens != 0 && (!opened_too || found != nullptr)) continue;
    found = &slab;
    if (slab.opens == 0) break;
  }
  if (found == nullptr) return std::nullopt;
  found->retiring = true;
  return found->view();
}

Status DramTier::remove(SlabId id) {
  {
    const MutexLock lock(impl_->mutex);
    Slab* slab = impl_->find(id);
    if (slab == nullptr) return fail(Code::kNotFound, fmt::format("there is no slab {}", id));
    if (!slab->retiring || slab->slots.used() != 0 || slab->opens != 0) {
      return fail(Code::kBusy, fmt::format("slab {} is {}, {} of its slots are taken and {} "
                                           "descriptors of clients are open",
                                           id, slab->retiring ? "retiring" : "in use",
                                           slab->slots.used(), slab->opens));
    }
    slab->going = true;
  }
  return impl_->discard(id);
}

void DramTier::discard_all() {
  std::vector<SlabId> owned;
  {
    const MutexLock lock(impl_->mutex);
    for (auto& [id, slab] : impl_->slabs) {
      if (!std::exchange(slab.going, true)) owned.push_back(id);
    }
  }
  for (const SlabId id : owned) {
    if (auto gone = impl_->discard(id); !gone) spdlog::warn("{}", gone.error().message);
  }
  while (const auto pooled = impl_->pool->take()) {
    if (auto gone = pooled->file->discard(); !gone) spdlog::warn("{}", gone.error().message);
  }
}

void DramTier::count_open(SlabId id, int delta) {
  const MutexLock lock(impl_->mutex);
  if (Slab* slab = impl_->find(id); slab != nullptr) {
    slab->opens += static_cast<std::uint32_t>(delta);
  }
}

std::uint64_t DramTier::capacity() const { return impl_->options.capacity; }
std::uint64_t DramTier::slab_bytes() const { return impl_->slab_bytes; }

std::uint64_t DramTier::used_bytes() const {
  const MutexLock lock(impl_->mutex);
  return impl_->used;
}

std::uint64_t DramTier::owned_bytes() const {
  const MutexLock lock(impl_->mutex);
  std::uint64_t bytes = 0;
  for (const auto& [id, slab] : impl_->slabs) bytes += slab.file->bytes();
  return bytes;
}

}  // namespace kvfs::tiers
