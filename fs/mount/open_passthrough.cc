#include "fs/mount/open_passthrough.h"

#include <fcntl.h>

#include "fs/mount/file_system.h"
#include "fs/mount/passthrough_handle.h"
#include "fs/mount/reply.h"

namespace kvfs::mount {
namespace {

void give(FileSystem& fs, fuse_req_t req, const std::shared_ptr<PassthroughHandle>& handle,
          fuse_file_info fi, int backing) {
  fi.backing_id = backing;
  fi.noflush = 1;
  fi.fh = fs.handles().add(handle);
  if (fuse_reply_open(req, &fi) == 0) return;
  fs.handles().take(fi.fh);  // the caller is gone, and so is the request
  handle->released(fs);
}

void open_slab(FileSystem& fs, fuse_req_t req, const InodePtr& inode, const fuse_file_info& fi) {
  const auto slab = static_cast<std::uint32_t>(inode->id.key.lo);
  // Counted first: from here on the slab cannot be removed under its descriptor.
  inode->ns->count_slab_open(slab, +1);
  const auto handle = std::make_shared<PassthroughHandle>(inode);
  const auto fd = inode->ns->slab_fd(slab);
  if (!fd) return reply(req, fd.error());
  const auto backing = fs.backings().acquire(req, inode->nodeid, *fd);
  if (!backing) return reply(req, backing.error());
  give(fs, req, handle, fi, *backing);
}

void open_index(FileSystem& fs, fuse_req_t req, const InodePtr& inode, const fuse_file_info& fi) {
  if ((fi.flags & O_ACCMODE) != O_RDONLY || (fi.flags & O_TRUNC) != 0)
    return reply(req, Refusal::kReadOnlyFile);
  const std::uint64_t generation = inode->id.key.lo;
  const auto file = inode->ns->index_file();
  if (file.generation != generation)
    return reply(req, Refusal::kStale);  // the kernel looks it up again
  const auto backing = fs.backings().acquire(req, inode->nodeid, file.fd);
  // The store closes the descriptor when the next generation comes: was it still this index?
  if (inode->ns->index_file().generation != generation) {
    if (backing) fs.backings().release(inode->nodeid);
    return reply(req, Refusal::kStale);
  }
  if (!backing) return reply(req, backing.error());
  give(fs, req, std::make_shared<PassthroughHandle>(inode), fi, *backing);
}

}  // namespace

void open_passthrough(FileSystem& fs, fuse_req_t req, const InodePtr& inode, fuse_file_info fi) {
  if (!fs.passthrough()) return reply(req, Refusal::kNotSupported);
  if (inode->kind() == InodeKind::kSlab) return open_slab(fs, req, inode, fi);
  open_index(fs, req, inode, fi);
}

}  // namespace kvfs::mount
