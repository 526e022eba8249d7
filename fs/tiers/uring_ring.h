// One io_uring: reads and writes to it, what came of them, and the files and memory it knows.
#pragma once

#include <liburing.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "fs/tiers/io_file.h"
#include "fs/tiers/uring_buffers.h"
#include "lib/format/result.h"

namespace kvfs::tiers {

// Threads: that which called open(), and no other: with DEFER_TASKRUN the ring belongs to it.
// Owns:    the ring between open() and close(), and its tables. Files and memory of a request are
//          the caller's until it came back.
// Blocks:  wait().
// Errors:  open(): kUnavailable where io_uring is not permitted. What the kernel does not register
//          is named in each request instead.
class UringRing {
 public:
  // For `depth` reads and writes at once, and as many cancels. A write to the eventfd `wakeup` ends
  // wait().
  Status open(std::uint32_t depth, int wakeup);
  void close();

  // Prepared, and handed to the kernel by submit() or wait(). `tag`: what reap() calls it.
  void read(IoFile& file, std::uint64_t offset, std::span<std::byte> memory, void* tag);
  void write(IoFile& file, std::uint64_t offset, std::span<const std::byte> memory, void* tag);
  // The request comes back all the same, canceled or not.
  void cancel(void* tag);

  void submit() { ::io_uring_submit(&ring_); }
  // Submits, and waits until something is there to be reaped, or `limit` is over.
  void wait(__kernel_timespec limit);

  // came_back(tag, result) for each read and write that did; result: bytes, or -errno.
  template <typename CameBack>
  void reap(CameBack came_back) {
    unsigned head = 0;
    unsigned count = 0;
    io_uring_cqe* completion = nullptr;
    io_uring_for_each_cqe(&ring_, head, completion) {
      ++count;
      void* tag = ::io_uring_cqe_get_data(completion);
      if (tag == &wakeup_value_) {
        watch_wakeup();
      } else if (tag != nullptr) {
        came_back(tag, completion->res);
      }
    }
    ::io_uring_cq_advance(&ring_, count);
  }

  void add_memory(std::span<std::byte> memory) { buffers_.add(memory); }
  void remove_memory(std::span<std::byte> memory) { buffers_.remove(memory); }
  // Files are registered by their first request.
  void forget(IoFile& file);

 private:
  // `of_registered`: the same for memory that is.
  void prepare(io_uring_op op, io_uring_op of_registered, IoFile& file, std::uint64_t offset,
               std::span<const std::byte> memory, void* tag);
  io_uring_sqe* next_request();
  void set_file(io_uring_sqe* request, IoFile& file);
  void watch_wakeup();

  io_uring ring_{};
  UringBuffers buffers_;
  std::vector<int> free_files_;  // entries of the ring's file table
  int wakeup_ = -1;
  std::uint64_t wakeup_value_ = 0;  // its address is that read's tag; a cancel has none
};

}  // namespace kvfs::tiers
