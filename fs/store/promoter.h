// Promoter: brings blocks from NVMe into DRAM.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <thread>
#include <unordered_map>
#include <vector>

#include "fs/mutex.h"
#include "fs/store/namespace_state.h"

namespace kvfs::store {

// A promotion: requested (in the namespace's `promotions`, holding its block) -> a DRAM slot is
// taken, evicting if need be -> the block is marked kPromoting and read straight into the slot ->
// its checksum is compared -> it is published and its waiters are called. A request for a block
// that is under way joins it. A block whose bytes are bad, or again cannot be read though its disk
// can, is dropped with all that follows it. In the order of the requests; at most `promote_depth`
// blocks at the device at once, and as many read and not yet compared: where processors are busy
// the disk does not wait for them.
//
// Threads: all calls from any thread. A few threads of its own; one of them at a time takes slots,
//          which may wait for room, so that another is there for what has been read.
// Owns:    its queue. Requests hold their blocks.
// Blocks:  stop(), for reads at the device.
// Errors:  waiters get kCorrupt, kIo, kNoSpace, or kUnavailable when the store closes.
class Promoter {
 public:
  explicit Promoter(Services& services);
  ~Promoter() { stop(); }
  Promoter(const Promoter&) = delete;
  Promoter& operator=(const Promoter&) = delete;

  struct Interest {
    WaiterPtr waiter;                 // may be empty
    std::weak_ptr<const void> lease;  // what wants it
  };
  // The block must not be resident and the caller must hold it.
  void request(NamespaceState& state, BlockOf block, const Interest& interest)
      REQUIRES(state.mutex);
  void stop();

 private:
  struct Request {
    NamespacePtr state;
    BlockOf block;
  };
  struct Read {
    NamespacePtr state;
    BlockOf block;
    tiers::TierSlot nvme;
    tiers::DramSlot dram;
    std::uint64_t checksum = 0;
    Clock::time_point begun;
    Status status;
  };

  void run();
  [[nodiscard]] bool may_begin() const REQUIRES(mutex_);
  std::vector<Request> take_requests() REQUIRES(mutex_);
  void begin(std::vector<Request> requests);
  [[nodiscard]] std::vector<Read> still_wanted(std::vector<Request>& requests);
  void fail_reads(std::span<const Read> reads, const Error& error);
  void end(Read& read);
  void publish(NamespaceState& state, BlockOf block, Removal& removal) REQUIRES(state.mutex);
  [[nodiscard]] bool lost(const Read& read);
  void give_up(NamespaceState& state, BlockOf block, const Error& error, bool is_lost,
               Removal& removal) REQUIRES(state.mutex);
  void finish(NamespaceState& state, BlockOf block, const Status& status, Removal& removal)
      REQUIRES(state.mutex);
  void came_back(Read read);
  void never_went(std::size_t reads);

  Services& services_;
  Mutex mutex_;  // lock order: namespace -> this
  CondVar changed_;
  std::deque<Request> queue_ GUARDED_BY(mutex_);
  std::deque<Read> ended_ GUARDED_BY(mutex_);     // back from the device
  std::size_t at_device_ GUARDED_BY(mutex_) = 0;  // or about to go there
  std::size_t in_flight_ GUARDED_BY(mutex_) = 0;  // begun and not done with
  bool beginning_ GUARDED_BY(mutex_) = false;     // a thread takes slots
  // By directory (nvme_tier.h): when the last read that ended well began.
  std::vector<Clock::time_point> last_good_ GUARDED_BY(mutex_);
  // The first read of a slot that failed since one did not.
  struct Failure {
    std::uint64_t checksum = 0;  // which block was there
    Clock::time_point at;
  };
  std::unordered_map<std::uint64_t, Failure> failed_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace kvfs::store
