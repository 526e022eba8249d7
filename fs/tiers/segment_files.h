// The files of the NVMe tier's segments: names, what a directory has, making and removing them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fs/tiers/io_file.h"
#include "fs/tiers/nvme_directory.h"
#include "lib/format/result.h"

namespace kvfs::tiers {

// Segment n is segments/<n>.seg of directory n % directories, so that a directory can be scanned
// and filled without the others.
//
// Threads: all calls from any thread; that a file is made or removed once is the caller's care.
// Owns:    the open directories, which never change.
// Blocks:  all calls, for the file system; make() for its journal, tens of milliseconds.
// Errors:  kIo, kNoSpace, kExists, as the file system says them.
class SegmentFiles {
 public:
  struct Scan {
    std::map<std::uint32_t, std::uint64_t> found;  // segment -> bytes
    std::uint32_t next_turn = 0;  // no file of this directory has a segment of this turn or later
  };

  explicit SegmentFiles(std::vector<OpenNvmeDirectory> directories)
      : directories_(std::move(directories)) {}

  [[nodiscard]] std::uint32_t directories() const {
    return static_cast<std::uint32_t>(directories_.size());
  }
  [[nodiscard]] std::uint64_t capacity(std::uint32_t directory) const {
    return directories_[directory].capacity;
  }
  [[nodiscard]] std::uint32_t directory_of(std::uint32_t segment) const {
    return segment % directories();
  }
  // The segment of a directory's turn: 0, 1, 2, ...
  [[nodiscard]] std::uint32_t segment_of(std::uint32_t directory, std::uint32_t turn) const {
    return turn * directories() + directory;
  }
  [[nodiscard]] std::string path_of(std::uint32_t segment) const;

  // Files that are no segments are named in the log and left alone.
  [[nodiscard]] Result<Scan> scan(std::uint32_t directory) const;
  [[nodiscard]] Result<std::shared_ptr<IoFile>> open(std::uint32_t segment) const;
  // Preallocated.
  [[nodiscard]] Result<std::shared_ptr<IoFile>> make(std::uint32_t segment,
                                                     std::uint64_t bytes) const;
  void remove(std::uint32_t segment) const;
  // Makes the names of a directory's files durable.
  [[nodiscard]] Status sync_names(std::uint32_t directory) const;

 private:
  [[nodiscard]] Result<std::shared_ptr<IoFile>> open(std::uint32_t segment, int more_flags) const;

  const std::vector<OpenNvmeDirectory> directories_;
};

}  // namespace kvfs::tiers
