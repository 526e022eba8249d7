// Memory of a device that other processes of the same device use, too: what the daemon keeps hot
// blocks in (fs/tiers/gpu_tier.h) and clients copy from (Device::map).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "lib/format/result.h"

namespace kvfs::gpu {

// Which device, wherever a process counts it: a GPU's UUID; zero: host memory, which stands in for
// a GPU's where there is none.
using DeviceId = std::array<std::uint8_t, 16>;

// All that another process needs to map a piece. It is the content of a GPU slab's file: who may
// read that may map the memory.
struct SharedHandle {
  std::uint64_t magic = 0;
  std::uint64_t bytes = 0;
  DeviceId device{};
  std::array<char, 64> token{};  // CUDA's IPC handle, or the path of a file
};
static_assert(sizeof(SharedHandle) == 96);
inline constexpr std::uint64_t kSharedMagic = 0x314853555047564bULL;  // "KVGPUSH1"

// One piece, as its owner has it.
// Threads: calls from any thread.
// Owns:    the memory. Processes that map it keep what is in it; the owner must not give it back
//          before they have let go.
// Blocks:  write() until the bytes are there.
// Errors:  kIo, with the device's own word for it.
class SharedMemory {
 public:
  virtual ~SharedMemory() = default;
  [[nodiscard]] virtual const SharedHandle& handle() const = 0;
  virtual Status write(std::uint64_t offset, std::span<const std::byte> bytes) = 0;
};

// Where pieces come from: one device.
// Threads: calls from any thread.
// Owns:    nothing of the pieces, which must go first.
// Blocks:  for the device.
// Errors:  allocate(): kNoSpace when the device has no such memory left; kIo where it is lost.
class SharedMemoryPool {
 public:
  virtual ~SharedMemoryPool() = default;
  // `bytes`: a multiple of 2 MiB, so that no piece shares an allocation of the driver's.
  virtual Result<std::unique_ptr<SharedMemory>> allocate(std::uint64_t bytes) = 0;
  // Bytes of the device that nobody has.
  virtual Result<std::uint64_t> available() = 0;
};

// Host memory in a GPU's part.
std::unique_ptr<SharedMemoryPool> make_host_pool();
// kUnavailable with the reason where the driver or the device is missing, or this build has no CUDA
// code.
Result<std::unique_ptr<SharedMemoryPool>> make_cuda_pool(int ordinal);

// A piece mapped into this process, until it is destroyed. Copies from it must have ended.
class MappedMemory {
 public:
  virtual ~MappedMemory() = default;
  [[nodiscard]] virtual std::byte* data() const = 0;  // an address of the device's
};
// Of the host's stand-in. kMismatch: it is a GPU's.
Result<std::unique_ptr<MappedMemory>> map_host_memory(const SharedHandle& handle);

}  // namespace kvfs::gpu
