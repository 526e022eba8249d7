#include "fs/mount/file_system.h"
#include "fs/mount/ops.h"

namespace kvfs::mount {

void op_flush(FileSystem& fs, fuse_req_t req, fuse_ino_t, fuse_file_info* fi) {
  const HandlePtr handle = fs.handles().get(fi->fh);
  if (handle == nullptr) return reply(req, Refusal::kWrongDescriptor);
  handle->flush(fs, req);
}

}  // namespace kvfs::mount
