// An engine's paged KV cache in device memory, with its pages in a random order.
#pragma once

#include <kvfs/kvfs.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "gpu/device.h"
#include "tools/benchmarks/gpu.h"
#include "tools/benchmarks/gpu_model.h"

namespace kvfs::bench {

// Per layer [kv][pages][tokens][heads][dim] (NHD), as vLLM has it; of one rank's heads.
// Threads: any.
// Owns:    the memory.
// Blocks:  making it.
// Errors:  throws std::bad_alloc.
class GpuCache {
 public:
  GpuCache(const Gpu& gpu, const GpuModel& model, std::uint32_t blocks);
  // For a transfer of blocks from 0 on. Valid while this lives.
  [[nodiscard]] kvfs_pages pages() const;
  [[nodiscard]] gpu::Pages device_pages() const;
  // The same of a copy of this memory.
  [[nodiscard]] gpu::Pages host_pages(std::byte* copy) const;
  [[nodiscard]] CUdeviceptr at() const { return memory_.at(); }
  [[nodiscard]] std::size_t size() const { return memory_.size(); }
  [[nodiscard]] std::uint32_t blocks() const { return blocks_; }
  // The pieces of one page that are contiguous both here and in a per-layer block as engines keep
  // it on the host: (layer, kv, page).
  [[nodiscard]] std::vector<CUdeviceptr> pieces() const;
  [[nodiscard]] std::uint64_t piece_bytes() const { return page_stride_; }

 private:
  GpuModel model_;
  std::uint32_t blocks_;
  std::uint32_t page_count_;
  std::uint64_t page_stride_;
  DeviceBuffer memory_;
  std::vector<void*> layers_;
  std::vector<std::int32_t> table_;
};

}  // namespace kvfs::bench
