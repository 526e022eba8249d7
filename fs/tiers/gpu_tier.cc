#include "fs/tiers/gpu_tier.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace kvfs::tiers {
namespace {

constexpr std::uint64_t kPiece = std::uint64_t{2} << 20;
constexpr std::uint64_t kMaxSlabBytes = std::uint64_t{256} << 20;

std::uint64_t whole_pieces(std::uint64_t bytes) { return (bytes + kPiece - 1) / kPiece * kPiece; }

GpuOptions completed(GpuOptions options) {
  if (options.slab_bytes == 0) {
    options.slab_bytes = std::clamp(options.capacity / 32 / kPiece * kPiece, kPiece, kMaxSlabBytes);
  }
  return options;
}

}  // namespace

GpuTier::GpuTier(const GpuOptions& options, std::unique_ptr<gpu::SharedMemoryPool> pool)
    : options_(completed(options)), pool_(std::move(pool)) {}

GpuSlot GpuTier::take_slot(SlabOwner owner, std::uint64_t slot_bytes) {
  for (auto& [id, slab] : slabs_) {
    if (slab.retiring || slab.owner != owner || slab.slot_bytes != slot_bytes) continue;
    const SlotRun run = slab.slots.take_some(1);
    if (run.count != 0) return {id, run.first};
  }
  return {};
}

// Capacity is claimed first, so that two at once do not pass it.
Result<std::shared_ptr<gpu::SharedMemory>> GpuTier::take_memory(std::uint64_t bytes) {
  {
    const MutexLock lock(mutex_);
    if (taken_ + bytes > options_.capacity) {
      return fail(Code::kNoSpace,
                  fmt::format("the GPU tier's {} bytes are used up", options_.capacity));
    }
    taken_ += bytes;
  }
  const auto take = [&]() -> Result<std::unique_ptr<gpu::SharedMemory>> {
    const Result<std::uint64_t> available = pool_->available();
    if (!available) return tl::unexpected<Error>(available.error());
    if (*available < options_.reserve + bytes) {
      return fail(Code::kNoSpace,
                  fmt::format("the GPU has {} bytes free, {} of them are to stay so", *available,
                              options_.reserve));
    }
    return pool_->allocate(bytes);
  };
  auto memory = take();
  if (memory) return std::shared_ptr<gpu::SharedMemory>(std::move(*memory));
  const MutexLock lock(mutex_);
  taken_ -= bytes;
  return pass(std::move(memory));
}

Result<GpuSlot> GpuTier::allocate(SlabOwner owner, std::uint64_t slot_bytes) {
  {
    const MutexLock lock(mutex_);
    if (const GpuSlot slot = take_slot(owner, slot_bytes); slot.valid()) return slot;
  }
  const std::uint64_t bytes = std::max(options_.slab_bytes, whole_pieces(slot_bytes));
  auto memory = take_memory(bytes);
  if (!memory) return pass(std::move(memory));
  const MutexLock lock(mutex_);
  slabs_.emplace(next_id_++,
                 Slab{.owner = owner,
                      .slot_bytes = slot_bytes,
                      .slots = SlotBitmap(static_cast<std::uint32_t>(bytes / slot_bytes)),
                      .memory = std::move(*memory)});
  return take_slot(owner, slot_bytes);
}

void GpuTier::free(GpuSlot slot) {
  const MutexLock lock(mutex_);
  if (const auto slab = slabs_.find(slot.slab); slab != slabs_.end()) {
    slab->second.slots.release(slot.slot);
  }
}

Status GpuTier::write(GpuSlot slot, std::span<const std::byte> bytes) {
  std::shared_ptr<gpu::SharedMemory> memory;
  std::uint64_t offset = 0;
  {
    const MutexLock lock(mutex_);
    const Slab& slab = slabs_.at(slot.slab);
    memory = slab.memory;
    offset = slot.slot * slab.slot_bytes;
  }
  return memory->write(offset, bytes);
}

Result<gpu::SharedHandle> GpuTier::handle(SlabId id) const {
  const MutexLock lock(mutex_);
  const auto slab = slabs_.find(id);
  if (slab == slabs_.end()) {
    return fail(Code::kNotFound, fmt::format("there is no GPU slab {} (any more)", id));
  }
  return slab->second.memory->handle();
}

void GpuTier::retire(SlabId id) {
  const MutexLock lock(mutex_);
  if (const auto slab = slabs_.find(id); slab != slabs_.end()) slab->second.retiring = true;
}

bool GpuTier::retiring(SlabId id) const {
  const MutexLock lock(mutex_);
  const auto slab = slabs_.find(id);
  return slab == slabs_.end() || slab->second.retiring;
}

std::vector<GpuSlabView> GpuTier::remove_retired() {
  std::vector<GpuSlabView> gone;
  std::vector<std::shared_ptr<gpu::SharedMemory>> memory;  // given back after the lock
  for (const GpuSlabView& slab : slabs()) {
    if (!slab.retiring || slab.used != 0 || slab.opens != 0) continue;
    const MutexLock lock(mutex_);
    const auto at = slabs_.find(slab.id);
    if (at == slabs_.end() || at->second.opens != 0) continue;
    memory.push_back(std::move(at->second.memory));
    slabs_.erase(at);
    gone.push_back(slab);
  }
  memory.clear();
  const MutexLock lock(mutex_);
  for (const GpuSlabView& slab : gone) taken_ -= slab.bytes;
  return gone;
}

void GpuTier::count_open(SlabId id, int delta) {
  const MutexLock lock(mutex_);
  if (const auto slab = slabs_.find(id); slab != slabs_.end()) {
    slab->second.opens += static_cast<std::uint32_t>(delta);
  }
}

std::vector<GpuSlabView> GpuTier::slabs() const {
  const MutexLock lock(mutex_);
  std::vector<GpuSlabView> views;
  views.reserve(slabs_.size());
  for (const auto& [id, slab] : slabs_) {
    views.push_back({.id = id,
                     .owner = slab.owner,
                     .bytes = slab.memory->handle().bytes,
                     .slot_bytes = slab.slot_bytes,
                     .slots = slab.slots.size(),
                     .used = slab.slots.used(),
                     .opens = slab.opens,
                     .retiring = slab.retiring});
  }
  return views;
}

Result<std::uint64_t> GpuTier::shortage() const {
  Result<std::uint64_t> available = pool_->available();
  if (!available) return available;
  std::uint64_t spare = *available;
  for (const GpuSlabView& slab : slabs()) {
    if (slab.retiring) spare += slab.bytes;
  }
  return spare < options_.reserve ? options_.reserve - spare : 0;
}

std::uint64_t GpuTier::used_bytes() const {
  std::uint64_t bytes = 0;
  for (const GpuSlabView& slab : slabs()) bytes += slab.used * slab.slot_bytes;
  return bytes;
}

std::uint64_t GpuTier::reserved_bytes() const {
  const MutexLock lock(mutex_);
  return taken_;
}

}  // namespace kvfs::tiers
