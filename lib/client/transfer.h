// Transfer: when a load or store is complete, and how it went.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "lib/client/deadline.h"
#include "lib/client/descriptor.h"
#include "lib/format/result.h"

namespace kvfs::client {

// Begins with one part open, the submitter's own; it is complete when every part has finished.
// The first error is the transfer's.
// Threads: calls from any thread. May be destroyed as soon as wait() or done() said complete.
// Owns:    a hold on the slabs that its copies use, until it is complete; the eventfd.
// Blocks:  wait() and drain().
// Errors:  the transfer's own; kTimeout from wait().
class Transfer {
 public:
  void begin_part();
  // `layers`: with this part the first so many layers have arrived.
  void finish_part(Status status, std::uint32_t layers = 0);
  void hold(std::shared_ptr<const void> slab);  // the submitter only
  // Waits until only the submitter's part is open: everything begun has been copied.
  void drain();
  [[nodiscard]] bool failed() const;

  Status wait(const Deadline& deadline);
  // For a caller that has nothing else to do: looks for a while before it sleeps, since a copy of
  // many megabytes takes a GPU no longer than a few wake-ups.
  Status wait_here();
  // Until the first `layers` layers have arrived, or the transfer has ended or failed.
  Status wait_layers(std::uint32_t layers, const Deadline& deadline);
  [[nodiscard]] std::uint32_t layers() const;
  [[nodiscard]] bool done() const;
  Result<int> event_fd();

 private:
  void signal_event() const;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::uint32_t open_parts_ = 1;
  std::uint32_t layers_ = 0;
  std::atomic<bool> complete_{false};  // written with mutex_ held
  Status status_;
  Descriptor event_;
  std::vector<std::shared_ptr<const void>> slabs_;
};

}  // namespace kvfs::client
