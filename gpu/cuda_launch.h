// Starting the kernels that move blocks between pages and where they lie on the device's side.
#pragma once

#include <cstdint>
#include <span>

#include "gpu/cuda_driver.h"
#include "gpu/device.h"

namespace kvfs::gpu {

// Of one direction: a kernel for each width of vector, and one for each encoding's conversion.
struct CudaKernels {
  CUfunction by_16 = nullptr, by_4 = nullptr, by_1 = nullptr;
  CUfunction packed = nullptr, fp8 = nullptr, int8 = nullptr;
};

// Some blocks and some of their heads.
struct CudaPiece {
  std::span<const BlockAt> blocks;
  std::uint32_t first_head;  // counted from Pages::first_head
  std::uint32_t heads;
  bool local = false;  // whole blocks in the device's own memory: no link to wait for
};

// at[i]: device address of the piece's first head of its block i, of which it has the layers
// wanted, or all of them where the piece is local. More than one launch where a kernel's argument
// cannot name all layers and tiles.
Status launch_moves(const CudaDriver& driver, const CudaKernels& kernels, CUstream stream,
                    const BlockShape& shape, const Pages& pages, const CudaPiece& piece,
                    std::span<const CUdeviceptr> at);

// `heads` heads as they are stored at `stored`, side by side, from or to their planes at `planes`.
Status launch_conversion(const CudaDriver& driver, const CudaKernels& kernels, CUstream stream,
                         const BlockShape& shape, std::uint64_t heads, CUdeviceptr stored,
                         CUdeviceptr planes);

}  // namespace kvfs::gpu
