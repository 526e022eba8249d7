// Running in the background: the parent waits until the child is ready, or passes its error on.
#pragma once

#include "fs/unique_fd.h"
#include "lib/format/result.h"

namespace kvfs::mount {

// Threads: one, before any other thread is started.
// Owns:    the child's end of a pipe to its parent.
// Blocks:  fork_to_background(), in the parent, until the child reports or dies.
// Errors:  the parent prints the child's and exits as it would (fs/exit_code.h).
class Background {
 public:
  // Returns in the child only; the parent exits.
  static Background fork_to_background();
  Background() = default;  // foreground: reports go nowhere

  void ready();                     // the parent exits 0; standard descriptors go to /dev/null
  void failed(const Error& error);  // the parent prints it and exits

 private:
  explicit Background(UniqueFd parent) : parent_(std::move(parent)) {}
  UniqueFd parent_;
};

}  // namespace kvfs::mount
