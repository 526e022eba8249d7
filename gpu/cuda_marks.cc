#include "gpu/cuda_marks.h"

#include <utility>

namespace kvfs::gpu {

Status CudaMarks::open() {
  return driver_.check(driver_.context_retain(&context_, device_), "using the GPU's context");
}

CudaMarks::~CudaMarks() {
  if (context_ == nullptr) return;
  {
    const CudaContextScope scope(driver_, context_);
    for (CUevent event : free_) driver_.event_destroy(event);
  }
  driver_.context_release(device_);
}

Result<CUevent> CudaMarks::take() {
  {
    const std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      CUevent event = free_.back();
      free_.pop_back();
      return event;
    }
  }
  CUevent event = nullptr;
  Status status =
      driver_.check(driver_.event_create(&event, CU_EVENT_DISABLE_TIMING), "creating an event");
  if (!status) return pass(std::move(status));
  return event;
}

void CudaMarks::give_back(CUevent event) {
  const std::lock_guard lock(mutex_);
  free_.push_back(event);
}

Result<std::shared_ptr<void>> CudaMarks::make(CUstream stream) {
  const CudaContextScope scope(driver_, context_);
  Result<CUevent> event = take();
  if (!event) return pass(std::move(event));
  Status status =
      driver_.check(driver_.event_record(*event, stream), "reading the engine's CUDA stream");
  if (!status) {
    give_back(*event);
    return pass(std::move(status));
  }
  return std::shared_ptr<void>(*event, [self = shared_from_this()](void* mark) {
    self->give_back(static_cast<CUevent>(mark));
  });
}

}  // namespace kvfs::gpu
