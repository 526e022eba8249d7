// An engine's memory on the device under test, filled and read from the host.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "gpu/device.h"

namespace kvfs::gpu::test {

class EngineMemory {
 public:
  virtual ~EngineMemory() = default;
  [[nodiscard]] virtual std::byte* base() = 0;
  virtual void upload(std::span<const std::byte> bytes) = 0;
  virtual void download(std::span<std::byte> bytes) = 0;
};

// A device to test, with the memory it reaches.
struct Subject {
  std::unique_ptr<Device> device;
  std::unique_ptr<EngineMemory> (*allocate)(std::size_t bytes);
};
// kUnavailable: not on this machine.
Result<Subject> make_subject(const std::string& name);

}  // namespace kvfs::gpu::test
