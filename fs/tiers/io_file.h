// A file that a UringQueue reads and writes.
#pragma once

#include <atomic>
#include <string>
#include <utility>

#include "fs/unique_fd.h"

namespace kvfs::tiers {

// Threads: `unsynced` any; `table_index` belongs to the queue's thread.
// Owns:    the descriptor, until the last operation on it is done.
struct IoFile {
  IoFile(UniqueFd descriptor, std::string file_path)
      : fd(std::move(descriptor)), path(std::move(file_path)) {}
  UniqueFd fd;
  std::string path;                   // for sentences
  std::atomic<bool> unsynced{false};  // set when a write completed, before its `done`
  int table_index = -1;               // in the ring's file table; -1: not there
};

}  // namespace kvfs::tiers
