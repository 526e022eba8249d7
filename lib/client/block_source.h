// Batches of blocks in memory: the two ways in which a client reaches a block's bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "gpu/device.h"
#include "lib/client/session.h"
#include "lib/client/transfer.h"
#include "lib/format/ioctls.h"
#include "lib/format/result.h"

namespace kvfs::client {

inline constexpr std::size_t kBatchBlocks = 2048;  // what one message's extents can name

// Addresses of consecutive or chosen blocks, filled front to back.
class Batch {
 public:
  void clear() { count_ = 0; }
  void add(std::byte* memory, std::uint32_t block) { blocks_[count_++] = {memory, block}; }
  [[nodiscard]] std::span<const gpu::BlockAt> blocks() const {
    return std::span(blocks_).first(count_);
  }

 private:
  std::array<gpu::BlockAt, kBatchBlocks> blocks_;
  std::size_t count_ = 0;
};

// Slots of mapped slabs by their extents; the slabs are held by `transfer`.
// Threads: one.
// Owns:    nothing beyond what the transfer holds.
// Blocks:  at the first use of a slab.
// Errors:  those of SlabMap.
class MappedSlots {
 public:
  enum class Access : std::uint8_t { kRead, kWrite };
  MappedSlots(Session& session, std::uint32_t group, Access access, Transfer& transfer)
      : session_(session),
        slot_bytes_(session.geometry().slot_bytes(group)),
        access_(access),
        transfer_(transfer) {}
  Result<std::byte*> address(const Extent& extent);

 private:
  Session& session_;
  const std::uint64_t slot_bytes_;
  const Access access_;
  Transfer& transfer_;
  std::shared_ptr<Slab> slab_;  // of the last extent: neighbours mostly share it
  std::uint32_t slab_id_ = kSlabNotResident;
};

// Slots of GPU slabs, for copies on that GPU; the slabs are held by `transfer`.
// Threads: one.
// Owns:    nothing beyond what the transfer holds.
// Blocks:  at the first use of a slab.
// Errors:  none: nullptr for a slot that this device cannot reach.
class GpuSlots {
 public:
  GpuSlots(Session& session, std::uint32_t group, gpu::Device& device, Transfer& transfer)
      : session_(session),
        slot_bytes_(session.geometry().slot_bytes(group)),
        device_(device),
        transfer_(transfer) {}
  std::byte* address(const Extent& extent);

 private:
  Session& session_;
  const std::uint64_t slot_bytes_;
  gpu::Device& device_;
  Transfer& transfer_;
  std::shared_ptr<GpuSlab> slab_;  // of the last extent; nullptr: out of reach
  std::uint32_t slab_id_ = kSlabNotResident;
};

// The fallback's memory: room for some blocks, used again and again.
// Threads: one.
// Owns:    the memory. Copies from or to it must have ended before it is destroyed or filled again.
class BounceBuffer {
 public:
  BounceBuffer(std::uint64_t block_bytes, std::uint32_t max_blocks);
  [[nodiscard]] std::uint32_t capacity() const { return capacity_; }
  [[nodiscard]] std::byte* block(std::uint32_t index) {
    return memory_.get() + index * block_bytes_;
  }
  [[nodiscard]] std::span<std::byte> first(std::uint32_t blocks) {
    return {memory_.get(), blocks * block_bytes_};
  }

 private:
  const std::uint64_t block_bytes_;
  const std::uint32_t capacity_;
  std::unique_ptr<std::byte[]> memory_;
};

}  // namespace kvfs::client
