#include "lib/client/block_source.h"

#include <algorithm>
#include <string>

namespace kvfs::client {
namespace {

// Large enough that one read(2) costs little beside its bytes, small enough for the cache.
constexpr std::uint64_t kBounceBytes = std::uint64_t{4} << 20;

}  // namespace

Result<std::byte*> MappedSlots::address(const Extent& extent) {
  if (extent.slab != slab_id_) {
    Result<std::shared_ptr<Slab>> slab =
        session_.checked(session_.slabs().get(extent.slab, slot_bytes_));
    if (!slab) return pass(std::move(slab));
    if (access_ == Access::kWrite && !(*slab)->writable()) {
      return fail(Code::kPermission, "slab " + std::to_string(extent.slab) +
                                         " may not be written: the namespace's directory and its "
                                         "mode decide who may");
    }
    transfer_.hold(*slab);
    slab_ = std::move(*slab);
    slab_id_ = extent.slab;
  }
  std::byte* const memory = slab_->slot(extent.slot);
  if (memory == nullptr) {
    return fail(Code::kCorrupt, "slab " + std::to_string(extent.slab) + " has no slot " +
                                    std::to_string(extent.slot) +
                                    ": use a client and a daemon of the same release");
  }
  return memory;
}

std::byte* GpuSlots::address(const Extent& extent) {
  if (extent.slab == kSlabNotResident) return nullptr;
  if (extent.slab != slab_id_) {
    slab_ = session_.slabs().get_gpu(extent.slab, slot_bytes_, device_);
    slab_id_ = extent.slab;
    if (slab_ != nullptr) transfer_.hold(slab_);
  }
  return slab_ == nullptr ? nullptr : slab_->slot(extent.slot);
}

BounceBuffer::BounceBuffer(std::uint64_t block_bytes, std::uint32_t max_blocks)
    : block_bytes_(block_bytes),
      capacity_(std::clamp<std::uint32_t>(static_cast<std::uint32_t>(kBounceBytes / block_bytes), 1,
                                          std::min<std::uint32_t>(max_blocks, kBatchBlocks))),
      memory_(std::make_unique_for_overwrite<std::byte[]>(block_bytes * capacity_)) {}

}  // namespace kvfs::client
