// Attributes of inodes, and who may do what: all of it follows from the namespace directory's
// owner, group and mode.
#pragma once

#include <sys/stat.h>

#include "fs/mount/inode.h"

namespace kvfs::mount {

class FileSystem;

// kNotFound: the object is gone and nobody holds it open.
Result<struct stat> attributes(FileSystem& fs, const Inode& inode);
// The same when the store was asked already.
struct stat prefix_attributes(const Inode& inode, const store::PrefixInfo& info);

// st_mode of everything below a namespace whose directory has these permission bits.
mode_t mode_below(InodeKind kind, mode_t directory);

// How long the kernel may keep the entry and its attributes, in seconds.
struct Timeouts {
  double entry;
  double attr;
};
Timeouts timeouts(const FileSystem& fs, InodeKind kind);

// Attributes and timeouts for a reply to lookup, create, symlink.
fuse_entry_param entry_param(const FileSystem& fs, const Inode& inode,
                             const struct stat& attributes);

}  // namespace kvfs::mount
