// CudaLocalLane: from blocks that lie in the device's own memory to the engine.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <span>

#include "gpu/cuda_completions.h"
#include "gpu/cuda_launch.h"
#include "gpu/cuda_place.h"
#include "gpu/cuda_registrations.h"
#include "gpu/cuda_stage.h"
#include "gpu/device.h"

namespace kvfs::gpu {

// One stream: raw blocks go to their pages by one kernel after the other, encoded ones by way of
// their planes, some at a time. Beside it the lanes that use the link go on. A transfer is two
// parts where it is long, so that who waits for its end sleeps through the first and polls for the
// second.
// Threads: calls from any thread; one transfer is submitted at a time.
// Owns:    stream, ring (for its events and planes), completion thread.
// Blocks:  submitting waits where four parts are under way.
// Errors:  go to the transfer's `done`.
class CudaLocalLane {
 public:
  CudaLocalLane(const CudaDriver& driver, const CudaPlace& place, const CudaKernels& kernels,
                CudaRegistrations& registrations);
  ~CudaLocalLane();
  CudaLocalLane(const CudaLocalLane&) = delete;
  CudaLocalLane& operator=(const CudaLocalLane&) = delete;
  Status open();

  void move_pages(const BlockShape& shape, std::span<const BlockAt> blocks, const Pages& pages,
                  const After& after, CopyDone done);
  void move_whole(std::span<const BlockAt> blocks, std::span<std::byte* const> engine,
                  std::uint64_t bytes, const After& after, CopyDone done);

 private:
  // Submits what queue(stage, blocks) gives the stream, in parts, where check() lets it; `bytes` of
  // each block are moved.
  template <typename Check, typename Queue>
  void submit(std::span<const BlockAt> blocks, std::uint64_t bytes, const After& after,
              CopyDone done, const Check& check, const Queue& queue);
  template <typename Queue>
  Result<CudaCompletions::Part> submit_part(std::span<const BlockAt> blocks, const Queue& queue);
  Status move_raw(const BlockShape& shape, std::span<const BlockAt> blocks, const Pages& pages);
  Status move_encoded(const BlockShape& shape, std::span<const BlockAt> blocks, const Pages& pages,
                      CudaStage& stage);
  // Of heads from pages.first_head + first_head on.
  Status decode(const BlockShape& shape, std::span<const BlockAt> blocks, const Pages& pages,
                std::uint32_t first_head, std::uint32_t heads, CUdeviceptr planes);

  const CudaDriver& driver_;
  const CudaPlace place_;
  const CudaKernels kernels_;
  std::mutex turn_;  // held while a transfer is submitted
  CUstream stream_ = nullptr;
  CudaRing ring_;
  CudaRegistrations& registrations_;
  std::unique_ptr<CudaCompletions> completions_;  // last: it releases stages
};

}  // namespace kvfs::gpu
