// What engines do today to bring cached KV into their pages, at the same geometry.
#pragma once

#include <memory>
#include <vector>

#include "gpu/cuda_launch.h"
#include "tools/benchmarks/gpu.h"
#include "tools/benchmarks/gpu_cache.h"
#include "tools/benchmarks/gpu_model.h"
#include "tools/benchmarks/row.h"

namespace kvfs::bench {

enum class GpuDirection : std::uint8_t { kLoad, kStore };

// Three ways between pinned memory and a cache: one large copy (the limit), a copy for each layer's
// part of each page in one cuMemcpyBatchAsync, and one kernel that reaches over the link.
// Threads: one.
// Owns:    the pinned memory and a device buffer of the same size for the large copies.
// Blocks:  every copy until it is done.
// Errors:  kIo: the driver's.
class GpuPeers {
 public:
  static Result<std::unique_ptr<GpuPeers>> make(const Gpu& gpu, const GpuModel& model,
                                                const GpuCache& cache, std::uint64_t bytes);
  ~GpuPeers();
  GpuPeers(const GpuPeers&) = delete;
  GpuPeers& operator=(const GpuPeers&) = delete;

  // Each returns the seconds it took.
  Result<double> large_copy(GpuDirection direction);
  Result<double> two_large_copies();
  Result<double> batch(GpuDirection direction);
  Result<double> zero_copy(GpuDirection direction);
  [[nodiscard]] const PinnedBuffer& pinned() const { return pinned_; }

 private:
  GpuPeers(const Gpu& gpu, const GpuModel& model, const GpuCache& cache, std::uint64_t bytes);
  Status load_kernels();
  Status begin_large(GpuDirection direction, std::size_t stream);

  const Gpu& gpu_;
  const GpuCache& cache_;
  PinnedBuffer pinned_;
  PinnedBuffer pinned_back_;  // of the other direction
  DeviceBuffer plain_;
  DeviceBuffer plain_back_;
  std::vector<CUdeviceptr> device_pieces_, host_pieces_;
  std::vector<std::size_t> sizes_;
  gpu::BlockShape shape_;
  gpu::Pages pages_;
  std::vector<gpu::BlockAt> blocks_;
  std::vector<CUdeviceptr> at_;
  CUmodule module_ = nullptr;
  gpu::CudaKernels scatter_, gather_;
};

}  // namespace kvfs::bench
