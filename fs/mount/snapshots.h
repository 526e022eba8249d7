// The text of virtual files.
#pragma once

#include <string>

#include "fs/mount/inode.h"

namespace kvfs::mount {

class FileSystem;

std::string snapshot(FileSystem& fs, const Inode& inode);

// st_size of those that do not change; 0 for the others, as in /proc: reading them to the end
// works.
std::uint64_t static_snapshot_bytes(FileSystem& fs, const Inode& inode);

}  // namespace kvfs::mount
