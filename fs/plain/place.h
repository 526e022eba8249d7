// Place: a name in a directory that was reached without following a symlink.
#pragma once

#include <sys/stat.h>

#include <cerrno>
#include <string>
#include <string_view>
#include <utility>

#include "fs/plain/os_result.h"
#include "fs/unique_fd.h"

namespace kvfs::plain {

// Users put symlinks to anywhere where a directory was a moment ago, and AT_SYMLINK_NOFOLLOW guards
// the last name of a path only. So what is below a plain directory comes to a system call as a
// Place, never as a path.
//
// Threads: one.
// Owns:    a descriptor of the directory, where reach() opened it.
// Blocks:  on the file system below.
// Errors:  errno; ENOTDIR where the path goes through a symlink.
class Place {
 public:
  // `directory` outlives it.
  Place(int directory, std::string name) : directory_(directory), name_(std::move(name)) {}
  // `path` from the directory `root`, which outlives it.
  static OsResult<Place> reach(int root, std::string_view path);

  [[nodiscard]] int directory() const { return directory_; }
  [[nodiscard]] const char* name() const { return name_.c_str(); }
  // Of what has the name, be it a symlink.
  [[nodiscard]] OsResult<struct stat> attributes() const;
  // The directory of that name, for reading.
  [[nodiscard]] OsResult<UniqueFd> open_directory() const;
  // For calls on attributes, which have no form with a directory. True while the Place is there.
  [[nodiscard]] std::string absolute() const;

 private:
  int directory_;
  std::string name_;
  UniqueFd own_;
};

// Whether a call failed because what had been found there left, or something else came for it.
constexpr bool went(int error) { return error == ENOENT || error == ENOTDIR || error == ELOOP; }

}  // namespace kvfs::plain
