#include "fs/mount/file_system.h"
#include "fs/mount/ops.h"

namespace kvfs::mount {

// A namespace needs a geometry: it comes by the control file's ns_create.
void op_mkdir(FileSystem&, fuse_req_t req, fuse_ino_t, const char*, mode_t) {
  reply(req, Refusal::kNotPermitted);
}

}  // namespace kvfs::mount
