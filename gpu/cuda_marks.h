// CudaMarks: moments in streams.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "gpu/cuda_driver.h"

namespace kvfs::gpu {

// Events for Device::after, used again and again.
// Threads: calls from any thread.
// Owns:    the events and a hold on the context that they are in; a mark out there holds this.
// Blocks:  never.
// Errors:  kIo: the stream is not one of this context.
class CudaMarks : public std::enable_shared_from_this<CudaMarks> {
 public:
  CudaMarks(const CudaDriver& driver, CUdevice device) : driver_(driver), device_(device) {}
  ~CudaMarks();
  CudaMarks(const CudaMarks&) = delete;
  CudaMarks& operator=(const CudaMarks&) = delete;
  Status open();

  Result<std::shared_ptr<void>> make(CUstream stream);
  static CUevent event(const std::shared_ptr<void>& mark) {
    return static_cast<CUevent>(mark.get());
  }

 private:
  Result<CUevent> take();
  void give_back(CUevent event);

  const CudaDriver& driver_;
  const CUdevice device_;
  CUcontext context_ = nullptr;
  std::mutex mutex_;
  std::vector<CUevent> free_;
};

}  // namespace kvfs::gpu
