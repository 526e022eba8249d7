#include "fs/mount/file_system.h"
#include "fs/mount/ops.h"

namespace kvfs::mount {

void op_read(FileSystem& fs, fuse_req_t req, fuse_ino_t, std::size_t size, off_t offset,
             fuse_file_info* fi) {
  const HandlePtr handle = fs.handles().get(fi->fh);
  if (handle == nullptr) return reply(req, Refusal::kWrongDescriptor);
  handle->read(fs, req, static_cast<std::uint64_t>(offset), size);
}

}  // namespace kvfs::mount
