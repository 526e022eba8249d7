// CudaLane: one direction's pipeline between host memory and the device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>

#include "gpu/cuda_completions.h"
#include "gpu/cuda_kernels.h"
#include "gpu/cuda_registrations.h"
#include "gpu/cuda_stage.h"
#include "gpu/device.h"

namespace kvfs::gpu {

// A kernel for each width of vector.
struct CudaKernels {
  CUfunction by_16 = nullptr, by_4 = nullptr, by_1 = nullptr;
};

enum class LaneDirection : std::uint8_t { kLoad, kStore };

// A transfer goes in parts through the ring's stages. Loading: a copy stream brings blocks into a
// stage while a kernel stream takes those of the stage before to their pages; storing: the other
// way round. Nothing waits for the device as a whole. Threads: calls from any thread; one transfer
// is submitted at a time. Owns:    streams, ring, completion thread. Blocks:  submitting waits for
// a free stage, which another transfer's copies may hold. Errors:  go to the transfer's `done`.
class CudaLane {
 public:
  CudaLane(const CudaDriver& driver, CUcontext context, LaneDirection direction,
           const CudaKernels& kernels, CudaRegistrations& registrations);
  ~CudaLane();
  CudaLane(const CudaLane&) = delete;
  CudaLane& operator=(const CudaLane&) = delete;
  Status open();

  void move_pages(const BlockShape& shape, std::span<const BlockAt> blocks, const Pages& pages,
                  CUstream caller, CopyDone done);
  void move_whole(std::span<const BlockAt> blocks, std::span<std::byte* const> engine,
                  std::uint64_t bytes, CUstream caller, CopyDone done);

 private:
  struct Span;  // a block's bytes on the host and on the device
  using Part = CudaCompletions::Part;

  Status move_part(const BlockShape& shape, std::span<const BlockAt> blocks, const Pages& pages,
                   Part& part);
  Status move_whole_part(std::span<const BlockAt> blocks, std::span<std::byte* const> engine,
                         std::uint64_t bytes, Part& part);
  Status write_tables(const BlockShape& shape, std::span<const BlockAt> blocks, const Pages& pages,
                      std::uint64_t touched, CudaStage& stage, CudaMove& move);
  Status launch(const CudaMove& move, const Pages& pages);
  Status copy_spans(std::span<Span> spans, Part& part);
  Status bounce_spans(std::span<Span> spans, Part& part);
  std::byte* pin(const Span& span, Part& part);
  Status copy_one(const Span& span);
  Status begin(CUstream caller);
  Status end(CUstream caller, CUevent last);
  [[nodiscard]] CUfunction kernel_for(const CudaMove& move, const Pages& pages) const;
  // Submits all parts; `next` makes one and says when it was the last.
  template <typename Next>
  void submit(CUstream caller, CopyDone done, const Next& next);

  const CudaDriver& driver_;
  const CUcontext context_;
  const LaneDirection direction_;
  const CudaKernels kernels_;
  CudaRegistrations& registrations_;
  std::mutex turn_;  // held while a transfer is submitted
  CUstream copy_stream_ = nullptr;
  CUstream kernel_stream_ = nullptr;
  CUevent called_ = nullptr;  // where the caller's stream was
  CudaRing ring_;
  std::unique_ptr<CudaCompletions> completions_;  // last: it releases stages
};

}  // namespace kvfs::gpu
