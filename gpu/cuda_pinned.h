// CudaPinned: host memory that is pinned once for all GPUs of the process.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <span>

#include "gpu/cuda_driver.h"

namespace kvfs::gpu {

// The driver pins memory once, for all contexts, and refuses it a second time: two GPUs that copy
// out of the same slabs have it in common. It stays pinned as long as the context lives that it was
// pinned in, which therefore is held until the last of them has given it up.
// Threads: calls from any thread, with a context current.
// Owns:    the registrations, each as long as somebody has it, and a hold on its context.
// Blocks:  add() while pages are pinned, also those of others.
// Errors:  add() says false for memory that cannot be pinned, somebody else's among it.
class CudaPinned {
 public:
  static CudaPinned& get();
  // The very same pieces by all.
  bool add(const CudaDriver& driver, std::span<std::byte> memory, bool writable);
  void remove(const CudaDriver& driver, std::byte* memory);

 private:
  struct Piece {
    CUdevice device;
    CUcontext context;
    std::size_t holders;
  };
  std::mutex mutex_;
  std::map<std::byte*, Piece> pieces_;
};

}  // namespace kvfs::gpu
