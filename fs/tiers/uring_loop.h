// The inside of UringQueue: what its thread does.
#pragma once

#include <linux/time_types.h>

#include <deque>
#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "fs/mutex.h"
#include "fs/tiers/io_operation.h"
#include "fs/tiers/uring_queue.h"
#include "fs/tiers/uring_ring.h"
#include "fs/unique_fd.h"

namespace kvfs::tiers {

// An operation's life:
//   incoming  submitted, under the mutex         -> ready   by take_incoming()
//   ready     not all of it has become pieces    -> issued  by issue()
//   issued    pieces are at the device           -> over    by finish_piece(), with the last one
//   over      nothing of it is at the device     -> done    by tell(), after what waits was issued
// An error or its deadline stops the issuing; it is over when no piece is out any more.
//
// Threads: submit() from any; all else on its own thread.
// Owns:    all operations; the ring, which only its thread uses.
// Blocks:  the thread waits in io_uring_enter, woken by completions, by its eventfd, at deadlines.
// Errors:  as UringQueue.
class UringQueue::Loop {
 public:
  Loop(const UringOptions& options, IoCounters& counters);
  ~Loop();
  Status start();

  // An operation from the pool, to be filled in and submitted.
  IoOperation* fresh() EXCLUDES(mutex_);
  void submit(IoOperation* operation) EXCLUDES(mutex_);

 private:
  using Clock = std::chrono::steady_clock;

  // One request: a part of an operation that is too large for one, or several that are adjacent in
  // their file and in memory (linked by next_merged).
  struct Piece {
    IoOperation* operation = nullptr;  // the first; nullptr: free
    std::uint64_t at = 0;              // from the operation's beginning
    std::uint32_t bytes = 0;
    bool at_device = false;
  };

  void run(std::promise<Status>& started);
  void wake();

  bool take_incoming() EXCLUDES(mutex_);  // false: stopping and nothing is left
  void accept(IoOperation* operation);
  void issue();
  Piece* next_piece();
  void merge(Piece& piece, ReadyList& ready) const;
  ReadyList& ready_of(const IoOperation& operation) {
    return operation.kind == IoKind::kRead ? reads_ : writes_;
  }
  [[nodiscard]] __kernel_timespec longest_wait() const;
  void wait();
  void reap();
  void expire();
  void drop_expired(ReadyList& ready);

  void finish_piece(Piece* piece, int result);
  void settle(Piece* piece);
  void part(Piece* piece);
  void end_if_over(IoOperation* operation);
  void end(IoOperation* operation);
  void tell();
  void tell(IoOperation* operation);

  const UringOptions options_;
  IoCounters& counters_;
  UniqueFd wakeup_;
  std::thread thread_;

  // The thread's own.
  UringRing ring_;
  std::vector<Piece> pieces_;
  std::vector<Piece*> free_pieces_;
  std::vector<Piece*> again_;  // short or interrupted: to be sent once more
  ReadyList reads_, writes_;
  ActiveList active_;
  std::uint32_t turn_ = 0;
  std::uint32_t under_way_ = 0;      // operations not done
  bool pause_ = false;               // the device said EAGAIN
  ReadyList over_;                   // to be told
  std::vector<IoOperation*> ended_;  // on their way back to the pool

  Mutex mutex_;
  ReadyList incoming_ GUARDED_BY(mutex_);
  std::vector<IoOperation*> free_ GUARDED_BY(mutex_);
  std::deque<IoOperation> pool_ GUARDED_BY(mutex_);
  bool asleep_ GUARDED_BY(mutex_) = false;
  bool stopping_ GUARDED_BY(mutex_) = false;
};

}  // namespace kvfs::tiers
