#pragma once

namespace kvfs::gpu {

// The fatbin of cuda_kernels.cu, for cuModuleLoadData.
const void* cuda_code();

}  // namespace kvfs::gpu
