// Whether an engine's pages are memory of the device that is to reach them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "gpu/cuda_driver.h"
#include "gpu/device.h"

namespace kvfs::gpu {

// A kernel that leaves an allocation takes the engine's context with it, so what it would touch is
// looked up before. kInvalid, with the layer, for host memory, another device's, and pages beyond
// the end of an allocation.
Status check_memory(const CudaDriver& driver, int ordinal, const BlockShape& shape,
                    const Pages& pages, std::span<const BlockAt> blocks);

// The same of whole blocks of `bytes` each: the beginnings of the allocations that they lie in.
Result<std::vector<CUdeviceptr>> allocations_of(const CudaDriver& driver, int ordinal,
                                                std::span<std::byte* const> blocks,
                                                std::uint64_t bytes);

}  // namespace kvfs::gpu
