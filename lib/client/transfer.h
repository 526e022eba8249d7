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
// The first error is the transfer's. The submitter begins the parts of one step of layers after the
// other; they finish in any order (those of a load may be copied by several lanes), and a step's
// layers have arrived when all of its parts and of the steps before it have finished.
// Threads: calls from any thread. May be destroyed as soon as wait() or done() said complete.
// Owns:    a hold on what its copies use, slabs above all, given up just before it is complete:
// after
//          that the client may be closed. The eventfd.
// Blocks:  wait() and drain().
// Errors:  the transfer's own; kTimeout from wait().
class Transfer {
 public:
  // The submitter only. Returns the step that the part belongs to.
  std::uint32_t begin_part();
  void finish_part(Status status, std::uint32_t step);
  // The submitter only: all parts of the step have begun; its layers are the first so many ones
  // that no step before has.
  void end_step(std::uint32_t layers);
  // The submitter's own part.
  void finish(Status status);
  void hold(std::shared_ptr<const void> used);  // the submitter only
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
  struct Step {
    std::uint32_t open_parts = 0;
    std::uint32_t layers = 0;  // that have arrived with it; once it has been ended
  };
  void give_up_holds(std::unique_lock<std::mutex>& lock);
  void finish_one(Status status);
  void note_arrivals();
  void signal_event() const;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::uint32_t open_parts_ = 1;
  std::vector<Step> steps_{1};  // the last one has not been ended
  std::size_t arrived_ = 0;     // steps
  std::uint32_t layers_ = 0;
  std::atomic<bool> complete_{false};  // written with mutex_ held
  Status status_;
  Descriptor event_;
  std::vector<std::shared_ptr<const void>> held_;
};

}  // namespace kvfs::client
