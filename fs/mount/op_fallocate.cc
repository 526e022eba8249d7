#include "fs/mount/file_system.h"
#include "fs/mount/ops.h"

namespace kvfs::mount {

void op_fallocate(FileSystem& fs, fuse_req_t req, fuse_ino_t, int mode, off_t offset, off_t length,
                  fuse_file_info* fi) {
  const HandlePtr handle = fs.handles().get(fi->fh);
  if (handle == nullptr) return reply(req, Refusal::kWrongDescriptor);
  handle->allocate(fs, req, mode, static_cast<std::uint64_t>(offset),
                   static_cast<std::uint64_t>(length));
}

}  // namespace kvfs::mount
