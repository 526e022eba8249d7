// The GPU that copies are made on.
#pragma once

#include "gpu/cuda_driver.h"

namespace kvfs::gpu {

struct CudaPlace {
  CUcontext context = nullptr;
  int ordinal = 0;
  bool reaches_host = false;  // kernels may use registered host memory by its own address
};

}  // namespace kvfs::gpu
