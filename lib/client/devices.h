// Devices: the devices a client copies with, chosen by where a pointer points.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "gpu/device.h"
#include "lib/format/result.h"

namespace kvfs::client {

// Threads: calls from any thread; one mutex inside.
// Owns:    the devices; all live until it is destroyed.
// Blocks:  making a device (its first pointer), removing memory (for copies that use it).
// Errors:  kUnavailable where a device cannot be made, kIo where one is lost.
class Devices {
 public:
  explicit Devices(std::uint32_t copy_threads) : cpu_(gpu::make_cpu_device(copy_threads)) {}

  Result<gpu::Device*> of(const void* pointer);

  // Memory that copies use, in slots, told to every device there is or will be.
  void add_memory(std::span<std::byte> memory, std::uint64_t slot_bytes, bool writable);
  void remove_memory(std::span<std::byte> memory);

 private:
  struct Memory {
    std::span<std::byte> bytes;
    std::uint64_t slot_bytes;
    bool writable;
  };
  const std::unique_ptr<gpu::Device> cpu_;
  std::mutex mutex_;
  std::map<int, std::unique_ptr<gpu::Device>> gpus_;  // by ordinal
  std::vector<Memory> memory_;
};

}  // namespace kvfs::client
