// What operations that find or make a name in a plain directory share.
#pragma once

#include <sys/stat.h>

#include <optional>

#include "fs/mount/file_system.h"
#include "fs/mount/reply.h"
#include "fs/plain/plain_store.h"

namespace kvfs::mount {

// A name in a directory, while nobody can rename what is above it.
struct PlainPlace {
  plain::SharedLock lock;
  InodePtr directory;
  plain::Place at;
};
// ESTALE: the directory is gone.
plain::OsResult<PlainPlace> plain_place(FileSystem& fs, fuse_ino_t parent, const char* name);

// The inode of a name that is there; counts a lookup. The place's lock is held.
InodePtr look_up_plain(FileSystem& fs, const PlainPlace& place, const char* name,
                       const struct stat& status);
// Answers with an inode that was just looked up; no lock is held.
void reply_plain_entry(FileSystem& fs, fuse_req_t req, const InodePtr& inode,
                       const struct stat& status);
// Something that was just made: gives it to the caller, as the file system below would have, with
// the permissions that he asked for (the kernel has applied his umask; the daemon's is none of
// his), and counts it. The place's lock is held.
plain::OsResult<struct stat> own_plain(const fuse_ctx& caller, const PlainPlace& place,
                                       std::optional<mode_t> mode);

}  // namespace kvfs::mount
