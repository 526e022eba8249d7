// CudaCompletions: what happens on the host when the device has done a part.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "gpu/cuda_registrations.h"
#include "gpu/cuda_stage.h"
#include "gpu/device.h"

namespace kvfs::gpu {

// Parts end in the order in which they were posted; the parts of one transfer follow each other,
// the last one carries `done`, which hears the first error of them all.
// Threads: calls from any thread; one thread of its own, which calls `done`.
// Owns:    posted parts.
// Blocks:  the destructor until all posted parts have ended.
// Errors:  the device's, given to `done` as kIo.
class CudaCompletions {
 public:
  struct Part {
    CudaStage* stage = nullptr;  // released at the end; nullptr: `failed` says why
    CUevent event = nullptr;     // one of the stage's
    struct Copy {
      std::byte* to;
      const std::byte* from;
      std::size_t bytes;
    };
    std::vector<Copy> copies;      // on the host, after the event
    std::vector<std::byte*> pins;  // registered pieces that are in use until then
    bool near_end = false;         // little of the transfer comes after it: polled for
    Status failed;
    CopyDone done;  // of the last part
  };
  CudaCompletions(const CudaDriver& driver, CUcontext context, CudaRing& ring,
                  CudaRegistrations& registrations);
  ~CudaCompletions();
  CudaCompletions(const CudaCompletions&) = delete;
  CudaCompletions& operator=(const CudaCompletions&) = delete;

  void post(Part part);
  // Gives back what a part holds: its stage and its pins.
  void release(Part& part);

 private:
  void work();
  [[nodiscard]] CUresult wait_for(const Part& part) const;
  Status finish(Part& part);

  const CudaDriver& driver_;
  const CUcontext context_;
  CudaRing& ring_;
  CudaRegistrations& registrations_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Part> parts_;
  bool stopping_ = false;
  std::thread thread_;  // last: it uses the rest
};

}  // namespace kvfs::gpu
