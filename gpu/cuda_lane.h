// CudaLane: one direction's pipeline between host memory and the device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "gpu/cuda_completions.h"
#include "gpu/cuda_launch.h"
#include "gpu/cuda_place.h"
#include "gpu/cuda_registrations.h"
#include "gpu/cuda_stage.h"
#include "gpu/device.h"
#include "gpu/lane_spans.h"

namespace kvfs::gpu {

// A transfer goes in parts through the ring's stages. Loading: a copy stream brings blocks into a
// stage while a kernel stream takes those of the stage before to their pages; storing: the other
// way round. What is small goes in one kernel that reaches host memory itself. Nothing waits for
// the device as a whole. Threads: calls from any thread; one transfer is submitted at a time. Owns:
// streams, ring, completion thread. Blocks:  submitting waits for a free stage, which another
// transfer's copies may hold. Errors:  go to the transfer's `done`.
class CudaLane {
 public:
  CudaLane(const CudaDriver& driver, const CudaPlace& place, LaneDirection direction,
           const CudaKernels& kernels, CudaRegistrations& registrations);
  ~CudaLane();
  CudaLane(const CudaLane&) = delete;
  CudaLane& operator=(const CudaLane&) = delete;
  Status open();

  void move_pages(const BlockShape& shape, std::span<const BlockAt> blocks, const Pages& pages,
                  const After& after, CopyDone done);
  void move_whole(std::span<const BlockAt> blocks, std::span<std::byte* const> engine,
                  std::uint64_t bytes, const After& after, CopyDone done);

 private:
  using Part = CudaCompletions::Part;

  bool reaches(const LaneMovement& movement, const LanePiece& piece, Part& part);
  Status fetch_rows(const LaneMovement& movement, const LanePiece& piece, const LaneTaken& taken,
                    CUdeviceptr to);
  Status move_piece(const LaneMovement& movement, const LanePiece& piece, Part& part);
  Status move_staged(const LaneMovement& movement, const LanePiece& piece, LaneTaken& taken,
                     Part& part);
  Status reserve_planes(const LaneMovement& movement, const LanePiece& piece, CudaStage& stage,
                        std::span<CUdeviceptr> at);
  Status move_directly(const LaneMovement& movement, const LanePiece& piece,
                       std::span<const LaneSpan> spans, Part& part);
  Status launch(const LaneMovement& movement, const LanePiece& piece, CUstream stream,
                std::span<const CUdeviceptr> at);
  Result<std::vector<LaneSpan>> whole_spans(std::span<const BlockAt> blocks,
                                            std::span<std::byte* const> engine,
                                            std::uint64_t bytes) const;
  Status move_spans(std::span<LaneSpan> spans, Part& part);
  Status copy_spans(std::span<LaneSpan> spans, Part& part);
  Status bounce_spans(std::span<LaneSpan> spans, Part& part);
  std::byte* pin(std::byte* memory, std::uint64_t bytes, Part& part);
  Status copy_rows(const LaneRows& rows);
  Status record(CUevent event, CUstream stream, CUstream waits);
  Status wait_for(const After& after, CUstream stream);
  // Submits all parts; `next` makes one and says when it was the last.
  template <typename Next>
  void submit(CopyDone done, const Next& next);

  const CudaDriver& driver_;
  const CudaPlace place_;
  const LaneDirection direction_;
  const CudaKernels kernels_;
  CudaRegistrations& registrations_;
  std::mutex turn_;  // held while a transfer is submitted
  CUstream copy_stream_ = nullptr;
  CUstream kernel_stream_ = nullptr;
  CUstream direct_stream_ = nullptr;  // of kernels that reach over the link
  CudaRing ring_;
  std::unique_ptr<CudaCompletions> completions_;  // last: it releases stages
};

}  // namespace kvfs::gpu
