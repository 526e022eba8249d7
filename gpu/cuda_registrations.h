// CudaRegistrations: host memory that the GPU may reach directly.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <span>
#include <thread>

#include "gpu/cuda_driver.h"

namespace kvfs::gpu {

// Registering pins pages and takes a while (some 30 GB/s), and while it does no kernel can be
// started. So it is done behind the caller, in pieces of whole slots, each of use as soon as it is
// done, and most of the time the engine has the driver to itself. Before the first copy it has no
// need of that: what is added then is registered as fast as it goes.
// Threads: calls from any thread; one thread of its own.
// Owns:    the registrations, not the memory. remove() before memory is unmapped.
// Blocks:  remove() for a piece that is just being registered, and for copies that use one.
// Errors:  memory that cannot be registered is left alone: copies take the slower way.
class CudaRegistrations {
 public:
  CudaRegistrations(const CudaDriver& driver, CUcontext context);
  ~CudaRegistrations();
  CudaRegistrations(const CudaRegistrations&) = delete;
  CudaRegistrations& operator=(const CudaRegistrations&) = delete;

  void add(std::span<std::byte> memory, std::uint64_t slot_bytes, bool writable);
  void remove(std::span<std::byte> memory);
  // The registered piece that these bytes lie in, held until unpin(); nullptr: there is none.
  // (Bytes across two pieces count as not registered: the driver takes no copy of such a range.)
  std::byte* pin(std::byte* memory, std::size_t bytes);
  void unpin(std::byte* piece);

 private:
  struct Piece {
    std::span<std::byte> memory;
    bool writable;
  };
  struct Registered {
    std::size_t bytes;
    std::size_t pins;
  };
  void work();
  bool register_piece(const Piece& piece) const;

  const CudaDriver& driver_;
  const CUcontext context_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Piece> waiting_;
  std::span<std::byte> current_;             // being registered; not in waiting_ any more
  std::map<std::byte*, Registered> pieces_;  // by address
  bool used_ = false;                        // a copy has asked for a piece
  bool stopping_ = false;
  std::thread thread_;  // last: it uses the rest
};

}  // namespace kvfs::gpu
