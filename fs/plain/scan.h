// A walk over all files of one plain directory.
#pragma once

#include <sys/stat.h>

#include <atomic>
#include <functional>
#include <string>

#include "lib/format/result.h"

namespace kvfs::plain {

struct FoundFile {
  int directory;            // the one it is in
  const char* name;         // in that directory
  const std::string& path;  // below the plain directory
  const struct stat& status;
};

// Calls `each` for every regular file below `root`/`name`, in the order of the file system below.
// Symlinks are not followed. What goes or comes meanwhile is seen or is not. Ends early when
// `stopping` becomes true.
// Errors: kIo for what cannot be read; the rest was walked.
Status scan(int root, const std::string& name, const std::atomic<bool>& stopping,
            const std::function<void(const FoundFile&)>& each);

}  // namespace kvfs::plain
