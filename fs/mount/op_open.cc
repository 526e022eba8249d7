#include <fcntl.h>

#include "fs/mount/control_handle.h"
#include "fs/mount/control_namespace.h"
#include "fs/mount/control_store.h"
#include "fs/mount/file_system.h"
#include "fs/mount/gpu_slab_handle.h"
#include "fs/mount/import.h"
#include "fs/mount/import_handle.h"
#include "fs/mount/open_passthrough.h"
#include "fs/mount/ops.h"
#include "fs/mount/prefix_handle.h"
#include "fs/mount/reservation_handle.h"
#include "fs/mount/snapshot_handle.h"
#include "fs/mount/snapshots.h"

namespace kvfs::mount {
namespace {

bool wants_to_write(const fuse_file_info& fi) {
  return (fi.flags & O_ACCMODE) != O_RDONLY || (fi.flags & O_TRUNC) != 0;
}

void give(FileSystem& fs, fuse_req_t req, fuse_file_info fi, HandlePtr handle) {
  fi.fh = fs.handles().add(std::move(handle));
  if (fuse_reply_open(req, &fi) == 0) return;
  if (const HandlePtr taken = fs.handles().take(fi.fh)) taken->released(fs);  // the caller is gone
}

void open_prefix(FileSystem& fs, fuse_req_t req, const InodePtr& inode, fuse_file_info fi) {
  if (wants_to_write(fi)) return reply(req, Refusal::kReadOnlyFile);
  const bool loads = (fi.flags & O_NONBLOCK) != 0;  // kLeaseOpenFlags
  auto lease = inode->ns->lease(inode->id.key, /*quiet=*/!loads);
  if (!lease) return reply(req, lease.error());
  fi.keep_cache = 1;  // another content is another inode
  fi.noflush = 1;
  give(fs, req, fi, std::make_shared<PrefixHandle>(inode, std::move(*lease), loads));
}

void open_snapshot(FileSystem& fs, fuse_req_t req, const InodePtr& inode, fuse_file_info fi) {
  if (wants_to_write(fi)) return reply(req, Refusal::kReadOnlyFile);
  fi.direct_io = 1;  // its length is known only now
  fi.noflush = 1;
  give(fs, req, fi, std::make_shared<SnapshotHandle>(inode, snapshot(fs, *inode)));
}

void open_control(FileSystem& fs, fuse_req_t req, const InodePtr& inode, fuse_file_info fi,
                  ControlHandle::Run run) {
  fi.direct_io = 1;
  fi.parallel_direct_writes = 1;  // a request may wait long, and is no reason for others to
  fi.nonseekable = 1;
  fi.noflush = 1;
  give(fs, req, fi, std::make_shared<ControlHandle>(inode, run));
}

// A GPU's memory is no file: a handle to it is read instead, by whoever may map slabs at all.
void open_gpu_slab(FileSystem& fs, fuse_req_t req, const InodePtr& inode, fuse_file_info fi) {
  if (wants_to_write(fi)) return reply(req, Refusal::kReadOnlyFile);
  const auto slab = static_cast<std::uint32_t>(inode->id.key.lo);
  // Counted first: from here on the slab cannot be removed under its descriptor.
  inode->ns->count_slab_open(slab, +1);
  const auto memory = inode->ns->gpu_slab(slab);
  if (!memory) {
    inode->ns->count_slab_open(slab, -1);
    return reply(req, memory.error());
  }
  fi.direct_io = 1;
  fi.noflush = 1;
  give(fs, req, fi, std::make_shared<GpuSlabHandle>(inode, *memory));
}

void open_reserve(FileSystem& fs, fuse_req_t req, const InodePtr& inode, fuse_file_info fi) {
  fi.direct_io = 1;
  fi.noflush = 1;
  give(fs, req, fi, std::make_shared<ReservationHandle>(inode));
}

void open_import(FileSystem& fs, fuse_req_t req, const InodePtr& inode, fuse_file_info fi) {
  if ((fi.flags & O_TRUNC) != 0) {
    if (auto status = inode->import->truncate(0); !status) return reply(req, status.error());
  }
  const bool writes = wants_to_write(fi);
  if (writes && !inode->import->begin_writing()) return reply(req, Refusal::kStale);
  give(fs, req, fi, std::make_shared<ImportHandle>(inode, writes));
}

}  // namespace

void op_open(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  const InodePtr inode = fs.inodes().get(ino);
  if (inode == nullptr) return reply(req, Refusal::kStale);
  switch (inode->kind()) {
    case InodeKind::kPrefix:
      return open_prefix(fs, req, inode, *fi);
    case InodeKind::kSlab:
      if (inode->id.key.lo >= kFirstGpuSlab) return open_gpu_slab(fs, req, inode, *fi);
      return open_passthrough(fs, req, inode, *fi);
    case InodeKind::kIndex:
      return open_passthrough(fs, req, inode, *fi);
    case InodeKind::kReserve:
      return open_reserve(fs, req, inode, *fi);
    case InodeKind::kControl:
      return open_control(fs, req, inode, *fi, control_namespace);
    case InodeKind::kStoreControl:
      return open_control(fs, req, inode, *fi, control_store);
    case InodeKind::kImport:
      return open_import(fs, req, inode, *fi);
    case InodeKind::kName:
      return reply(req, Refusal::kBadMessage);
    default:
      return is_directory(inode->kind()) ? reply(req, Refusal::kIsDirectory)
                                         : open_snapshot(fs, req, inode, *fi);
  }
}

}  // namespace kvfs::mount
