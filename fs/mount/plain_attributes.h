#pragma once

#include <sys/stat.h>

#include "fs/mount/inode.h"

namespace kvfs::mount {

class FileSystem;

// Those of the file below, also of one whose name is gone while it is open.
// kNotFound: it is gone.
Result<struct stat> plain_attributes(FileSystem& fs, const Inode& inode);

}  // namespace kvfs::mount
