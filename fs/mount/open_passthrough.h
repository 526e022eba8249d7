#pragma once

#include "fs/mount/fuse_api.h"
#include "fs/mount/inode.h"

namespace kvfs::mount {

class FileSystem;

// Opens a slab or an index so that the kernel goes to its backing file directly. The kernel opens
// the backing with the client's own flags, whatever ours are: who may write is decided here and by
// the mode of the inode. Without passthrough the files cannot be opened (kNotSupported).
void open_passthrough(FileSystem& fs, fuse_req_t req, const InodePtr& inode, fuse_file_info fi);

}  // namespace kvfs::mount
