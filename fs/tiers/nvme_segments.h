// Which slots of which segments are taken, and which segments there are.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <unordered_map>
#include <vector>

#include "fs/mutex.h"
#include "fs/tiers/block_tier.h"
#include "fs/tiers/io_file.h"
#include "fs/tiers/segment_files.h"
#include "fs/tiers/slot_bitmap.h"
#include "lib/format/result.h"

namespace kvfs::tiers {

// Where a slot's bytes are.
struct SlotLocation {
  std::shared_ptr<IoFile> file;
  std::uint64_t offset = 0;
  std::uint64_t slot_bytes = 0;
  std::uint32_t directory = 0;
};

// States of a segment and the call that moves each:
//   found   a file of an earlier run         -> in use  by claim()
//                                            -> spare or gone  by the first allocate()
//   in use  some of its slots are taken      -> spare   by free() of the last one
//   spare   a preallocated file, no slots    -> in use  by allocate(), of any slot size that fits
//           (one a directory is made ahead: preallocating waits for the file system's journal)
//                                            -> gone    to make room for a larger one, or at close
//
// Threads: all calls from any thread; one of its own that makes spares.
// Owns:    the segment files. Those taken off the disk are told to `on_gone`: a ring may hold them.
// Blocks:  allocate() when it has to preallocate a file: only callers that need one wait.
// Errors:  kNoSpace, kInvalid, kNotFound, kExists, kMismatch, kIo.
class NvmeSegments {
 public:
  using OnGone = std::function<void(std::uint32_t directory, std::shared_ptr<IoFile>)>;
  // Scans the directories for segments of earlier runs.
  static Result<std::unique_ptr<NvmeSegments>> open(std::vector<OpenNvmeDirectory> directories,
                                                    std::uint64_t segment_bytes, OnGone on_gone);
  ~NvmeSegments();
  NvmeSegments(const NvmeSegments&) = delete;
  NvmeSegments& operator=(const NvmeSegments&) = delete;

  Result<TierSlot> allocate(std::uint64_t slot_bytes);
  void free(TierSlot slot);
  Status claim(TierSlot slot, std::uint64_t slot_bytes);
  [[nodiscard]] Result<SlotLocation> locate(TierSlot slot) const;
  // Makes every completed write durable, and the names of new files.
  Status sync();

  void fill(TierUsage& usage) const;  // capacity, used, reserved

 private:
  using Clock = std::chrono::steady_clock;

  struct Segment {
    std::uint32_t id = 0;
    std::uint64_t bytes = 0;
    std::uint64_t slot_bytes = 0;  // 0: a spare
    SlotBitmap slots{0};
    std::shared_ptr<IoFile> file;
  };
  struct Directory {
    std::map<std::uint32_t, std::uint64_t> found;  // id -> bytes; only before the first allocate()
    std::vector<Segment*> spares;
    std::uint64_t file_bytes = 0;  // of all its segment files: never more than the capacity
    std::uint32_t next_turn = 0;   // of its segments
    Clock::time_point grow_again;  // the disk was full: not before then
    bool unsynced_names = false;
    bool spare_wanted = false;
    bool growing = false;  // a file of it is being made: its bytes are in file_bytes already
  };
  // The segments of one slot size that have free slots.
  struct SizeClass {
    std::vector<std::vector<Segment*>> with_free;  // by directory; the last one is being filled
    std::uint32_t next_directory = 0;
  };
  struct Growth {
    std::uint32_t directory = 0;
    std::uint32_t id = 0;
    std::uint64_t bytes = 0;
  };

  NvmeSegments(std::vector<OpenNvmeDirectory> directories, std::uint64_t segment_bytes,
               OnGone on_gone);
  void end_claims() REQUIRES(mutex_);
  SizeClass& size_class(std::uint64_t slot_bytes) REQUIRES(mutex_);
  // A slot from what is there, or which directory must grow for it. One that is growing now is
  // such a directory too: what it will have is not known before the file is there. Under
  // grow_mutex_ none is growing.
  Result<TierSlot> take(std::uint64_t slot_bytes, bool& must_grow, std::uint32_t& directory)
      REQUIRES(mutex_);
  bool reuse_spare(std::uint32_t directory, std::uint64_t slot_bytes) REQUIRES(mutex_);
  // Bytes a new segment may have; 0: there is no room for one slot.
  [[nodiscard]] std::uint64_t room_for(std::uint32_t directory, std::uint64_t slot_bytes) const
      REQUIRES(mutex_);
  Growth plan_growth(std::uint32_t directory, std::uint64_t slot_bytes) REQUIRES(mutex_);
  // Makes the segment that was planned; a spare for slot_bytes == 0.
  Status grow(const Growth& growth, std::uint64_t slot_bytes) REQUIRES(grow_mutex_)
      EXCLUDES(mutex_);
  void make_ahead() EXCLUDES(mutex_);
  void make_spare_ahead(std::uint32_t directory) EXCLUDES(mutex_);
  void put_in_use(Segment& segment, std::uint64_t slot_bytes) REQUIRES(mutex_);
  void make_spare(Segment& segment) REQUIRES(mutex_);
  void remove_spare(Segment& segment) REQUIRES(mutex_);

  const SegmentFiles files_;
  const std::uint64_t segment_bytes_;
  const OnGone on_gone_;
  Mutex grow_mutex_;  // held while a file is made; taken before mutex_
  Mutex sync_mutex_;  // held by sync(): whoever comes second must not return before the first
  mutable Mutex mutex_;
  std::vector<Directory> directories_ GUARDED_BY(mutex_);
  std::unordered_map<std::uint32_t, std::unique_ptr<Segment>> segments_ GUARDED_BY(mutex_);
  std::map<std::uint64_t, SizeClass> classes_ GUARDED_BY(mutex_);
  std::uint64_t used_ GUARDED_BY(mutex_) = 0;
  bool claiming_ GUARDED_BY(mutex_) = true;
  bool stopping_ GUARDED_BY(mutex_) = false;
  CondVar spare_wanted_;
  std::thread maker_;
};

}  // namespace kvfs::tiers
