// Starting the kernels that move blocks between pages and where they lie on the device's side.
#pragma once

#include <cstdint>
#include <span>

#include "gpu/cuda_driver.h"
#include "gpu/device.h"

namespace kvfs::gpu {

// Of one direction: a kernel for each width of vector, and the one that packs or unpacks.
struct CudaKernels {
  CUfunction by_16 = nullptr, by_4 = nullptr, by_1 = nullptr;
  CUfunction pack = nullptr;
};

// Some blocks and some of their heads.
struct CudaPiece {
  std::span<const BlockAt> blocks;
  std::uint32_t first_head;  // counted from Pages::first_head
  std::uint32_t heads;
};

// at[i]: device address of the piece's first head of its block i, of which it has the layers
// wanted. More than one launch where a kernel's argument cannot name all layers and tiles.
Status launch_moves(const CudaDriver& driver, const CudaKernels& kernels, CUstream stream,
                    const BlockShape& shape, const Pages& pages, const CudaPiece& piece,
                    std::span<const CUdeviceptr> at);

// `heads` packed heads at `packed`, side by side, from or to their planes at `planes`.
Status launch_packing(const CudaDriver& driver, const CudaKernels& kernels, CUstream stream,
                      const BlockShape& shape, std::uint64_t heads, CUdeviceptr packed,
                      CUdeviceptr planes);

}  // namespace kvfs::gpu
