#include "fs/mount/file_system.h"
#include "fs/mount/ops.h"

namespace kvfs::mount {

void op_mknod(FileSystem&, fuse_req_t req, fuse_ino_t, const char*, mode_t, dev_t) {
  reply(req, Refusal::kNotPermitted);
}

}  // namespace kvfs::mount
