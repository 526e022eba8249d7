#include "gpu/cuda_pinned.h"

namespace kvfs::gpu {

CudaPinned& CudaPinned::get() {
  static auto* const instance = new CudaPinned;  // threads that pin may outlive what exit() ends
  return *instance;
}

bool CudaPinned::add(const CudaDriver& driver, std::span<std::byte> memory, bool writable) {
  const std::lock_guard lock(mutex_);
  if (const auto found = pieces_.find(memory.data()); found != pieces_.end()) {
    ++found->second.holders;
    return true;
  }
  Piece piece{.device = 0, .context = nullptr, .holders = 1};
  if (driver.context_device(&piece.device) != CUDA_SUCCESS ||
      driver.context_retain(&piece.context, piece.device) != CUDA_SUCCESS) {
    return false;
  }
  const unsigned int flags = CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP |
                             (writable ? 0U : CU_MEMHOSTREGISTER_READ_ONLY);
  if (driver.host_register(memory.data(), memory.size(), flags) != CUDA_SUCCESS) {
    driver.context_release(piece.device);
    return false;
  }
  pieces_.emplace(memory.data(), piece);
  return true;
}

void CudaPinned::remove(const CudaDriver& driver, std::byte* memory) {
  const std::lock_guard lock(mutex_);
  const auto found = pieces_.find(memory);
  if (--found->second.holders != 0) return;
  {
    const CudaContextScope scope(driver, found->second.context);
    driver.host_unregister(memory);
  }
  driver.context_release(found->second.device);
  pieces_.erase(found);
}

}  // namespace kvfs::gpu
