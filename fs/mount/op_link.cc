#include "fs/mount/file_system.h"
#include "fs/mount/ops.h"

namespace kvfs::mount {

// A prefix's file name is its key; other names are symlinks.
void op_link(FileSystem&, fuse_req_t req, fuse_ino_t, fuse_ino_t, const char*) {
  reply(req, Refusal::kNotPermitted);
}

}  // namespace kvfs::mount
