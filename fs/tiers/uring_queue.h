// A thread and its io_uring: blocks in, pieces to the device, `done` when all pieces are back.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fs/tiers/block_tier.h"
#include "fs/tiers/io_file.h"
#include "lib/format/result.h"

namespace kvfs::tiers {

struct UringOptions {
  std::string name;          // of the thread, at most 15 characters
  std::uint32_t depth = 64;  // pieces at the device at once
  std::uint32_t piece_bytes =
      2 << 20;  // of one request: larger blocks are split, adjacent smaller ones merged
  std::chrono::milliseconds timeout{10000};
};

struct IoCounters {
  std::atomic<std::uint64_t> reads{0}, writes{0}, bytes_read{0}, bytes_written{0}, errors{0};
  std::atomic<std::uint32_t> queued{0};
};

// Reads go first, but every fourth piece is a write's while both wait: write-back gives way to
// promotion without starving.
//
// Threads: all calls from any thread; `done` runs on the queue's own.
// Owns:    ring and thread. The counters outlive it.
// Blocks:  open() and the destructor, which waits until every operation is done.
// Errors:  open(): kUnavailable where io_uring is not permitted. Operations: kIo; kTimeout at the
//          deadline, at once for what is not at the device yet, else when the device let go of it.
class UringQueue {
 public:
  static Result<std::unique_ptr<UringQueue>> open(const UringOptions& options,
                                                  IoCounters& counters);
  ~UringQueue();
  UringQueue(const UringQueue&) = delete;
  UringQueue& operator=(const UringQueue&) = delete;

  void read(std::shared_ptr<IoFile> file, std::uint64_t offset, std::span<std::byte> bytes,
            IoDone done);
  void write(std::shared_ptr<IoFile> file, std::uint64_t offset, std::span<const std::byte> bytes,
             IoDone done);
  // Tells `done` the error where all others are told.
  void fail_later(Error error, IoDone done);

  // In the order of the calls around them.
  void register_memory(std::span<std::byte> memory);
  void unregister_memory(std::span<std::byte> memory);
  void forget(std::shared_ptr<IoFile> file);

 private:
  class Loop;
  explicit UringQueue(std::unique_ptr<Loop> loop);
  std::unique_ptr<Loop> loop_;
};

}  // namespace kvfs::tiers
