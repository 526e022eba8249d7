// A GPU as the benchmarks use it: memory, streams, and what plain copies of CUDA's reach.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "gpu/cuda_driver.h"
#include "lib/format/result.h"

namespace kvfs::bench {

// Threads: made on one thread, on which its context is current from then on; other threads call
//          enter() first.
// Owns:    a hold on the context; two streams.
// Blocks:  the copies named wait_*.
// Errors:  kUnavailable: no driver or no such GPU; kIo with the driver's name for what went wrong.
class Gpu {
 public:
  static Result<std::unique_ptr<Gpu>> open(int ordinal);
  ~Gpu();
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  [[nodiscard]] const gpu::CudaDriver& driver() const { return driver_; }
  [[nodiscard]] CUcontext context() const { return context_; }
  [[nodiscard]] CUstream stream(std::size_t index) const { return streams_[index]; }
  // Copies many pieces in one call (cuMemcpyBatchAsync), either way; kUnavailable before CUDA 12.8.
  Status copy_batch(std::span<CUdeviceptr> to, std::span<CUdeviceptr> from,
                    std::span<std::size_t> sizes) const;
  [[nodiscard]] Status wait(std::size_t index) const;

 private:
  explicit Gpu(const gpu::CudaDriver& driver) : driver_(driver) {}
  const gpu::CudaDriver& driver_;
  CUdevice device_ = 0;
  CUcontext context_ = nullptr;
  CUstream streams_[2] = {};
};

// Memory on the device.
// Threads: any.
// Owns:    the memory.
// Blocks:  making it.
// Errors:  throws std::bad_alloc.
class DeviceBuffer {
 public:
  DeviceBuffer(const Gpu& gpu, std::size_t bytes);
  ~DeviceBuffer();
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  [[nodiscard]] CUdeviceptr at() const { return at_; }
  [[nodiscard]] std::size_t size() const { return bytes_; }

 private:
  const Gpu& gpu_;
  CUdeviceptr at_ = 0;
  std::size_t bytes_;
};

// Pinned memory of the driver's own, filled with numbers.
// Threads: any.
// Owns:    the memory.
// Blocks:  making it.
// Errors:  throws std::bad_alloc.
class PinnedBuffer {
 public:
  PinnedBuffer(const Gpu& gpu, std::size_t bytes);
  ~PinnedBuffer();
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;
  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return bytes_; }

 private:
  const Gpu& gpu_;
  std::byte* data_ = nullptr;
  std::size_t bytes_;
};

}  // namespace kvfs::bench
