// PendingReply: a request that waits for something without holding a FUSE thread.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <unordered_map>

#include "fs/histogram.h"
#include "fs/mount/reply.h"
#include "fs/mount/worker.h"
#include "fs/mutex.h"

namespace kvfs::mount {

class ParkedRequests;

// States: waiting -> answered, once, by whichever of these comes first:
//   answer()/refuse() of the owner, an interrupt of the caller (EINTR), fail_all() at the end, or
//   the destructor of the last copy (EIO: an answer that was never given is a bug that must not
//   hang).
//
// Threads: any one at a time; interrupts and fail_all() may race with all of them.
// Owns:    the request until it is answered. Copies share it (a std::function needs copies).
// Blocks:  answer() writes to the kernel.
// Errors:  an answer that comes second is dropped: the caller has his already.
class PendingReply {
 public:
  PendingReply() = default;
  // Replies by calling `write` with the request, at most once. True when it was this call.
  bool answer(const std::function<void(fuse_req_t)>& write) const;
  bool refuse(Refusal refusal) const {
    return answer([refusal](fuse_req_t req) { reply(req, refusal); });
  }
  bool refuse(const Error& error) const {
    return answer([&error](fuse_req_t req) { reply(req, error); });
  }
  bool finish(const Status& status) const {
    return answer([&status](fuse_req_t req) { reply(req, status); });
  }
  [[nodiscard]] bool answered() const;

 private:
  friend class ParkedRequests;
  struct Parked;
  explicit PendingReply(std::shared_ptr<Parked> parked) : parked_(std::move(parked)) {}
  std::shared_ptr<Parked> parked_;
};

// Threads: all calls from any thread.
// Owns:    the list of what waits.
// Blocks:  fail_all() and stop() write to the kernel.
// Errors:  none.
class ParkedRequests {
 public:
  PendingReply park(fuse_req_t req);
  // Answers everything that waits; for the end, when no new request can come.
  void fail_all(Refusal refusal);
  // No interrupt is answered any more.
  void stop() { interrupts_.stop(); }
  [[nodiscard]] std::size_t waiting() const;
  [[nodiscard]] HistogramSnapshot wait_times() const { return wait_times_.snapshot(); }

 private:
  friend class PendingReply;
  void remove(const PendingReply::Parked* parked);
  void answer_interrupted(std::shared_ptr<PendingReply::Parked> parked);

  mutable Mutex mutex_;  // innermost
  std::unordered_map<const PendingReply::Parked*, std::weak_ptr<PendingReply::Parked>> waiting_
      GUARDED_BY(mutex_);
  Histogram wait_times_;
  Worker interrupts_{"kvfs-interrupt", 1};
};

}  // namespace kvfs::mount
