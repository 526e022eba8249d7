// A walk over what is in one plain directory.
#pragma once

#include <sys/stat.h>

#include <atomic>
#include <functional>
#include <string>

#include "lib/format/result.h"

namespace kvfs::plain {

struct FoundFile {
  int directory;            // the one it is in,
  const char* name;         // and its name there
  const std::string& path;  // below the plain directory
  const struct stat& status;
};

// Calls `each` for everything below `root`/`name`: for a directory before what is in it, and for
// all that is below one subdirectory without another's in between. Symlinks are not followed. What
// goes or comes meanwhile is seen or is not; a rename of `name` itself is no matter. Ends early
// when `stopping` becomes true. Errors: kIo for what cannot be read, also `name` that is not there;
// the rest was walked.
Status walk(int root, const std::string& name, const std::atomic<bool>& stopping,
            const std::function<void(const FoundFile&)>& each);

// The same, for regular files only.
Status scan(int root, const std::string& name, const std::atomic<bool>& stopping,
            const std::function<void(const FoundFile&)>& each);

}  // namespace kvfs::plain
