// GpuSlab: a piece of a GPU's memory that the daemon keeps hot blocks in, mapped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "gpu/device.h"
#include "lib/client/descriptor.h"
#include "lib/format/result.h"

namespace kvfs::client {

// Threads: immutable after open().
// Owns:    the mapping, and the descriptor that tells the daemon of it.
// Blocks:  open() asks the daemon and the driver.
// Errors:  those of the mount; kMismatch where it is not `device`'s memory; kIo from the driver.
class GpuSlab {
 public:
  static Result<std::shared_ptr<GpuSlab>> open(int directory, std::uint32_t id,
                                               std::uint64_t slot_bytes, gpu::Device& device);
  GpuSlab(Descriptor file, std::unique_ptr<gpu::MappedMemory> memory, std::uint64_t bytes,
          std::uint64_t slot_bytes)
      : file_(std::move(file)),
        memory_(std::move(memory)),
        bytes_(bytes),
        slot_bytes_(slot_bytes) {}

  // An address of the device's; nullptr: the slab has no such slot.
  [[nodiscard]] std::byte* slot(std::uint32_t index) const {
    const std::uint64_t offset = index * slot_bytes_;
    return offset + slot_bytes_ > bytes_ ? nullptr : memory_->data() + offset;
  }

 private:
  const Descriptor file_;  // closed after the memory was let go of
  const std::unique_ptr<gpu::MappedMemory> memory_;
  const std::uint64_t bytes_;
  const std::uint64_t slot_bytes_;
};

}  // namespace kvfs::client
