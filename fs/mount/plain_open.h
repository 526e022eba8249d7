// Whole files of plain directories: opened, and compared with what an earlier life recorded.
#pragma once

#include <functional>

#include "fs/mount/file_system.h"
#include "fs/plain/plain_store.h"

namespace kvfs::mount {

plain::OsResult<plain::Opened> open_plain_for_reading(FileSystem& fs, const Inode& inode);

// What an earlier life of the daemon recorded is read and compared before anybody sees it: `then`
// where it may be believed from now on. ESTALE: it was dropped, EIO: the disk did not give it.
// Blocks: while the file is read.
void compare_plain(FileSystem& fs, const InodePtr& inode, const PendingReply& pending,
                   const std::function<void(fuse_req_t)>& then);

}  // namespace kvfs::mount
