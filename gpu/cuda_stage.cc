#include "gpu/cuda_stage.h"

#include <bit>

namespace kvfs::gpu {

Status CudaBuffer::reserve(std::size_t bytes) {
  if (bytes <= bytes_) return {};
  Status status;
  for (const std::size_t size : {std::bit_ceil(bytes), bytes}) {
    pieces_.emplace_back();
    status = allocate(size, pieces_.back());
    if (status) {
      bytes_ = size;
      break;
    }
    pieces_.pop_back();
  }
  return status;
}

Status CudaBuffer::allocate(std::size_t bytes, Piece& piece) const {
  if (where_ == Where::kDevice) {
    return driver_.check(driver_.allocate(&piece.device, bytes), "allocating device memory");
  }
  return driver_.check(
      driver_.host_allocate(reinterpret_cast<void**>(&piece.host), bytes, CU_MEMHOSTALLOC_PORTABLE),
      "allocating pinned memory");
}

CudaBuffer::~CudaBuffer() {
  for (const Piece& piece : pieces_) {
    if (piece.device != 0) driver_.free(piece.device);
    if (piece.host != nullptr) driver_.host_free(piece.host);
  }
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
