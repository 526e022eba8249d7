#include "fs/mount/pending_reply.h"

#include <vector>

namespace kvfs::mount {

struct PendingReply::Parked : std::enable_shared_from_this<Parked> {
  Parked(fuse_req_t request, ParkedRequests& list) : req(request), parked(list) {}
  ~Parked() {
    if (!answered.load(std::memory_order_acquire)) {
      answer([](fuse_req_t request) { reply(request, Refusal::kFault); });
    }
  }
  Parked(const Parked&) = delete;
  Parked& operator=(const Parked&) = delete;

  bool answer(const std::function<void(fuse_req_t)>& write) {
    if (answered.exchange(true, std::memory_order_acq_rel)) return false;
    // Waits for an interrupt that is being delivered; after it, libfuse knows nothing of this
    // object. Must come before the reply, which may free the request.
    fuse_req_interrupt_func(req, nullptr, nullptr);
    parked.wait_times_.observe(std::chrono::steady_clock::now() - since);
    parked.remove(this);
    write(req);
    return true;
  }

  // Called by libfuse with the request's own lock held. The reply goes from another thread: libfuse
  // still uses the request after this returns, and replying frees it.
  static void interrupted(fuse_req_t /*request*/, void* data) {
    auto* parked = static_cast<Parked*>(data);
    if (auto self = parked->weak_from_this().lock())
      parked->parked.answer_interrupted(std::move(self));
  }

  fuse_req_t req;
  ParkedRequests& parked;
  std::chrono::steady_clock::time_point since = std::chrono::steady_clock::now();
  std::atomic<bool> answered{false};
};

bool PendingReply::answer(const std::function<void(fuse_req_t)>& write) const {
  return parked_ != nullptr && parked_->answer(write);
}

bool PendingReply::answered() const {
  return parked_ == nullptr || parked_->answered.load(std::memory_order_acquire);
}

PendingReply ParkedRequests::park(fuse_req_t req) {
  auto parked = std::make_shared<PendingReply::Parked>(req, *this);
  {
    const MutexLock lock(mutex_);
    waiting_.emplace(parked.get(), parked);
  }
  // May call interrupted() at once, when the interrupt came first.
  fuse_req_interrupt_func(req, &PendingReply::Parked::interrupted, parked.get());
  return PendingReply(std::move(parked));
}

void ParkedRequests::answer_interrupted(std::shared_ptr<PendingReply::Parked> parked) {
  interrupts_.post([parked = std::move(parked)] {
    parked->answer([](fuse_req_t req) { reply(req, Refusal::kInterrupted); });
  });
}

void ParkedRequests::remove(const PendingReply::Parked* parked) {
  const MutexLock lock(mutex_);
  waiting_.erase(parked);
}

void ParkedRequests::fail_all(Refusal refusal) {
  std::vector<std::shared_ptr<PendingReply::Parked>> all;
  {
    const MutexLock lock(mutex_);
    for (const auto& [raw, weak] : waiting_) {
      if (auto parked = weak.lock()) all.push_back(std::move(parked));
    }
  }
  for (const auto& parked : all) parked->answer([refusal](fuse_req_t req) { reply(req, refusal); });
}

std::size_t ParkedRequests::waiting() const {
  const MutexLock lock(mutex_);
  return waiting_.size();
}

}  // namespace kvfs::mount
