#include "lib/client/devices.h"

#include <algorithm>
#include <utility>

namespace kvfs::client {

Result<gpu::Device*> Devices::of(const void* pointer) {
  Result<int> ordinal = gpu::device_of(pointer);
  if (!ordinal) return pass(std::move(ordinal));
  if (*ordinal < 0) return cpu_.get();
  const std::lock_guard lock(mutex_);
  std::unique_ptr<gpu::Device>& device = gpus_[*ordinal];
  if (!device) {
    Result<std::unique_ptr<gpu::Device>> made = gpu::make_cuda_device(*ordinal);
    if (!made) return pass(std::move(made));
    device = std::move(*made);
    for (const Memory& memory : memory_) {
      device->register_memory(memory.bytes, memory.slot_bytes, memory.writable);
    }
  }
  return device.get();
}

void Devices::add_memory(std::span<std::byte> memory, std::uint64_t slot_bytes, bool writable) {
  const std::lock_guard lock(mutex_);
  memory_.push_back({memory, slot_bytes, writable});
  for (const auto& [ordinal, device] : gpus_) {
    if (device) device->register_memory(memory, slot_bytes, writable);
  }
}

void Devices::remove_memory(std::span<std::byte> memory) {
  const std::lock_guard lock(mutex_);
  std::erase_if(memory_, [&](const Memory& m) { return m.bytes.data() == memory.data(); });
  for (const auto& [ordinal, device] : gpus_) {
    if (device) device->unregister_memory(memory);
  }
}

}  // namespace kvfs::client
