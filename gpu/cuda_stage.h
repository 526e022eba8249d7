// CudaStage: one buffer of a ring that a transfer passes through.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "gpu/cuda_driver.h"

namespace kvfs::gpu {

// Memory that grows to what is asked for and stays: on the device, or pinned on the host. What it
// has outgrown stays, too: to free memory the driver waits for all that the device has been given,
// the engine's forward pass as well. So it grows to powers of two, where there is room for them:
// all that was outgrown is less than what is in use.
// Threads: one at a time; with the context current.
// Owns:    the memory.
// Blocks:  growing (it allocates); the destructor, for the device.
// Errors:  kIo when there is no such memory left; it is as it was then.
class CudaBuffer {
 public:
  enum class Where : std::uint8_t { kDevice, kPinned };
  CudaBuffer(const CudaDriver& driver, Where where) : driver_(driver), where_(where) {}
  ~CudaBuffer();
  CudaBuffer(const CudaBuffer&) = delete;
  CudaBuffer& operator=(const CudaBuffer&) = delete;

  Status reserve(std::size_t bytes);
  [[nodiscard]] CUdeviceptr device() const { return pieces_.back().device; }
  [[nodiscard]] std::byte* host() const { return pieces_.back().host; }

 private:
  struct Piece {  // device or host memory, or none
    CUdeviceptr device = 0;
    std::byte* host = nullptr;
  };
  Status allocate(std::size_t bytes, Piece& piece) const;

  const CudaDriver& driver_;
  const Where where_;
  std::size_t bytes_ = 0;
  std::vector<Piece> pieces_{1};  // the last one is in use
};

struct CudaStage {
  explicit CudaStage(const CudaDriver& driver)
      : blocks(driver, CudaBuffer::Where::kDevice),
        planes(driver, CudaBuffer::Where::kDevice),
        bounce(driver, CudaBuffer::Where::kPinned) {}
  CudaBuffer blocks;         // as they are in slabs
  CudaBuffer planes;         // encoded blocks decoded, or not encoded yet
  CudaBuffer bounce;         // stands in for memory that is not registered
  CUevent copied = nullptr;  // between host and device
  CUevent moved = nullptr;   // by the kernel
  bool busy = false;
};

// A few stages, used in turn.
// Threads: acquire() by one thread at a time, release() by any.
// Owns:    the stages.
// Blocks:  acquire() until the oldest stage was released.
// Errors:  open() with kIo.
class CudaRing {
 public:
  CudaRing(const CudaDriver& driver, CUcontext context) : driver_(driver), context_(context) {}
  ~CudaRing();
  CudaRing(const CudaRing&) = delete;
  CudaRing& operator=(const CudaRing&) = delete;

  Status open();
  CudaStage& acquire();
  void release(CudaStage& stage);

 private:
  static constexpr std::size_t kStages = 4;
  const CudaDriver& driver_;
  const CUcontext context_;
  std::mutex mutex_;
  std::condition_variable released_;
  std::vector<std::unique_ptr<CudaStage>> stages_;
  std::size_t next_ = 0;
};

}  // namespace kvfs::gpu
