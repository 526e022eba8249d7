#include "gpu/cuda_pinned.h"

namespace kvfs::gpu {

CudaPinned& CudaPinned::get() {
  static auto* const instance = new CudaPinned;  // threads that pin may outlive what exit() ends
  return *instance;
}

bool CudaPinned::add(const CudaDriver& driver, std::span<std::byte> memory, bool writable) {
  const std::lock_guard lock(mutex_);
  if (const auto found = holders_.find(memory.data()); found != holders_.end()) {
    ++found->second;
    return true;
  }
  const unsigned int flags = CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP |
                             (writable ? 0U : CU_MEMHOSTREGISTER_READ_ONLY);
  if (driver.host_register(memory.data(), memory.size(), flags) != CUDA_SUCCESS) return false;
  holders_.emplace(memory.data(), 1);
  return true;
}

void CudaPinned::remove(const CudaDriver& driver, std::byte* memory) {
  const std::lock_guard lock(mutex_);
  const auto found = holders_.find(memory);
  if (--found->second != 0) return;
  driver.host_unregister(memory);
  holders_.erase(found);
}

}  // namespace kvfs::gpu
