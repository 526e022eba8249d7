// Maintenance: what nobody waits for: slabs whose last client has gone, hits that the journal has
// not.
#pragma once

#include <cstdint>
#include <memory>
#include <thread>

#include "fs/mutex.h"
#include "fs/store/namespace_state.h"

namespace kvfs::store {

// Threads: its own, and whoever calls stop().
// Owns:    nothing.
// Blocks:  stop().
// Errors:  none: what failed is tried again next time.
class Maintenance {
 public:
  explicit Maintenance(Services& services);
  ~Maintenance() { stop(); }
  Maintenance(const Maintenance&) = delete;
  Maintenance& operator=(const Maintenance&) = delete;

  // Ends the thread after a last round.
  void stop();

 private:
  void run();
  void persist_hits();

  Services& services_;
  std::uint32_t hits_persisted_at_;  // seconds since the epoch
  std::weak_ptr<void> last_round_;   // of hits, until the journal has written them
  Mutex mutex_;
  CondVar changed_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace kvfs::store
