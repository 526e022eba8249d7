// Trash: directories that have left the plain directories by one rename, until what is in them is
// removed. So a crash in between leaves none of it where it was.
#pragma once

#include <cstdint>
#include <string>

#include "fs/plain/os_result.h"
#include "fs/plain/place.h"

namespace kvfs::plain {

// Threads: all calls from any thread.
// Owns:    the directory `path` and all that is in it.
// Blocks:  on the file system below.
// Errors:  what cannot be removed is logged, and left for the next start.
class Trash {
 public:
  explicit Trash(std::string path) : path_(std::move(path)) {}

  // Makes it, and removes what an earlier life left.
  OsStatus open();
  // Nothing else has that inode.
  [[nodiscard]] OsStatus take(const Place& from, std::uint64_t inode) const;
  void remove(std::uint64_t inode) const;

 private:
  [[nodiscard]] std::string place(std::uint64_t inode) const;
  const std::string path_;
};

}  // namespace kvfs::plain
