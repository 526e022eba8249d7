#include "fs/mount/file_system.h"
#include "fs/mount/ops.h"

namespace kvfs::mount {

void op_release(FileSystem& fs, fuse_req_t req, fuse_ino_t, fuse_file_info* fi) {
  if (const HandlePtr handle = fs.handles().take(fi->fh)) handle->released(fs);
  reply_ok(req);
}

}  // namespace kvfs::mount
