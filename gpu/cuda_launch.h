// Starting the kernels that move blocks between pages and where they lie on the device's side.
#pragma once

#include <cstdint>
#include <span>

#include "gpu/cuda_driver.h"
#include "gpu/device.h"
#include "gpu/lane_movement.h"
#include "gpu/stored_planes.h"

namespace kvfs::gpu {

// Of one direction: a kernel for each width of vector, and one for each encoding's conversion.
struct CudaKernels {
  CUfunction by_16 = nullptr, by_4 = nullptr, by_1 = nullptr;
  CUfunction packed = nullptr, fp8 = nullptr, int8 = nullptr;
};

// at[i]: device address of the piece's first head of its block i. More than one launch where a
// kernel's argument cannot name all layers and tiles.
Status launch_moves(const CudaDriver& driver, const CudaKernels& kernels, CUstream stream,
                    const BlockShape& shape, const Pages& pages, const LanePiece& piece,
                    std::span<const CUdeviceptr> at);

// Small rows to device memory, by a kernel that reads them where they are, over the link if need
// be: a DMA takes as long for a row of 300 bytes as for one of 8 KB.
struct CudaRows {
  std::span<const CUdeviceptr> blocks;  // of each its first head's row, in memory the GPU reaches
  std::uint32_t heads;                  // of each block
  std::uint64_t bytes;                  // of a row
  std::uint64_t apart;                  // from one head's row to the next
  CUdeviceptr to;                       // the first block's first row; the others follow it
  std::uint64_t to_apart;
};
Status launch_rows(const CudaDriver& driver, const CudaKernels& kernels, CUstream stream,
                   const CudaRows& rows);

// Planes of `heads` encoded heads, which are at `stored`, to `planes`; or all their planes there
// to whole heads.
Status launch_conversion(const CudaDriver& driver, const CudaKernels& kernels, CUstream stream,
                         const BlockShape& shape, const StoredPlanes& of_head, std::uint64_t heads,
                         CUdeviceptr stored, CUdeviceptr planes);

}  // namespace kvfs::gpu
