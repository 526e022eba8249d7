#include "gpu/cuda_stage.h"

#include <algorithm>

namespace kvfs::gpu {

Status CudaBuffer::reserve(std::size_t bytes) {
  if (bytes <= bytes_) return {};
  reset();
  Status status = where_ == Where::kDevice
                      ? driver_.check(driver_.allocate(&device_, bytes), "allocating device memory")
                      : driver_.check(driver_.host_allocate(reinterpret_cast<void**>(&host_), bytes,
                                                            CU_MEMHOSTALLOC_PORTABLE),
                                      "allocating pinned memory");
  if (status) bytes_ = bytes;
  return status;
}

void CudaBuffer::reset() {
  if (bytes_ == 0) return;
  if (where_ == Where::kDevice) {
    driver_.free(device_);
  } else {
    driver_.host_free(host_);
  }
  bytes_ = 0;
}

CudaRing::~CudaRing() {
  const CudaContextScope scope(driver_, context_);
  for (const auto& stage : stages_) {
    if (stage->copied != nullptr) driver_.event_destroy(stage->copied);
    if (stage->moved != nullptr) driver_.event_destroy(stage->moved);
  }
  stages_.clear();  // while the context is current
}

Status CudaRing::open() {
  // Blocking: the thread that waits for a copy sleeps. Without timing: cheaper to record.
  constexpr unsigned int kFlags = CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING;
  for (std::size_t i = 0; i < kStages; ++i) {
    stages_.push_back(std::make_unique<CudaStage>(driver_));
    for (CUevent* event : {&stages_.back()->copied, &stages_.back()->moved}) {
      Status status = driver_.check(driver_.event_create(event, kFlags), "creating an event");
      if (!status) return status;
    }
  }
  return {};
}

CudaStage& CudaRing::acquire() {
  std::unique_lock lock(mutex_);
  CudaStage& stage = *stages_[next_];
  next_ = (next_ + 1) % stages_.size();
  released_.wait(lock, [&stage] { return !stage.busy; });
  stage.busy = true;
  return stage;
}

void CudaRing::release(CudaStage& stage) {
  const std::lock_guard lock(mutex_);
  stage.busy = false;
  released_.notify_all();
}

}  // namespace kvfs::gpu
