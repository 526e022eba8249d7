#include "gpu/cuda_completions.h"

#include <immintrin.h>
#include <pthread.h>

#include <chrono>
#include <cstring>
#include <utility>

namespace kvfs::gpu {
namespace {

// How long a part near a transfer's end is polled for before the thread sleeps: longer than the
// largest takes. Waking from a sleep costs as much as a block's copy or two.
constexpr std::chrono::microseconds kPoll{1000};
constexpr int kPauses = 20;  // between two looks, which take a lock of the driver's

}  // namespace

CudaCompletions::CudaCompletions(const CudaDriver& driver, CUcontext context, CudaRing& ring,
                                 CudaRegistrations& registrations)
    : driver_(driver),
      context_(context),
      ring_(ring),
      registrations_(registrations),
      thread_([this] { work(); }) {
  pthread_setname_np(thread_.native_handle(), "kvfs-gpu");
}

CudaCompletions::~CudaCompletions() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void CudaCompletions::post(Part part) {
  {
    const std::lock_guard lock(mutex_);
    parts_.push_back(std::move(part));
  }
  changed_.notify_all();
}

void CudaCompletions::release(Part& part) {
  for (std::byte* piece : part.pins) registrations_.unpin(piece);
  part.pins.clear();
  ring_.release(*part.stage);
}

CUresult CudaCompletions::wait_for(const Part& part) const {
  if (part.near_end) {
    const auto end = std::chrono::steady_clock::now() + kPoll;
    while (std::chrono::steady_clock::now() < end) {
      const CUresult result = driver_.event_query(part.event);
      if (result != CUDA_ERROR_NOT_READY) return result;
      for (int i = 0; i < kPauses; ++i) _mm_pause();
    }
  }
  return driver_.event_synchronize(part.event);
}

Status CudaCompletions::finish(Part& part) {
  if (part.stage == nullptr) return part.failed;
  Status status = driver_.check(wait_for(part), "copying on the GPU");
  if (status) {
    for (const Part::Copy& copy : part.copies) std::memcpy(copy.to, copy.from, copy.bytes);
  }
  release(part);
  return status;
}

void CudaCompletions::work() {
  const CudaContextScope scope(driver_, context_);
  Status transfer;
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !parts_.empty(); });
    if (parts_.empty()) return;
    Part part = std::move(parts_.front());
    parts_.pop_front();
    lock.unlock();
    Status status = finish(part);
    if (!status && transfer) transfer = std::move(status);
    if (part.done) part.done(std::exchange(transfer, Status{}));
    part = {};  // what `done` holds goes before the lock comes back
    lock.lock();
  }
}

}  // namespace kvfs::gpu
