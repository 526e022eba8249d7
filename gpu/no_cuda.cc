#include "gpu/device.h"
#include "gpu/shared_memory.h"
namespace kvfs::gpu {
Result<std::unique_ptr<Device>> make_cuda_device(int) {
  return fail(Code::kUnavailable, "this build of kvfs has no CUDA device: build it where nvcc is");
}
Result<std::unique_ptr<SharedMemoryPool>> make_cuda_pool(int) {
  return fail(Code::kUnavailable, "this build of kvfs has no CUDA device: build it where nvcc is");
}
}  // namespace kvfs::gpu
