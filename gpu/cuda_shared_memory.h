// Device memory that several processes use, by CUDA's IPC.
#pragma once

#include <memory>

#include "gpu/cuda_driver.h"
#include "gpu/shared_memory.h"

namespace kvfs::gpu {

// Of one device, as every process sees it.
Result<DeviceId> cuda_device_id(const CudaDriver& driver, CUdevice device);

// kMismatch: it is memory of another device than `id`, the context's.
Result<std::unique_ptr<MappedMemory>> map_cuda_memory(const CudaDriver& driver, CUcontext context,
                                                      const DeviceId& id,
                                                      const SharedHandle& handle);

}  // namespace kvfs::gpu
