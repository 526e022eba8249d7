#include "fs/mount/passthrough_handle.h"

#include "fs/mount/file_system.h"

namespace kvfs::mount {

PassthroughHandle::~PassthroughHandle() {
  if (inode()->kind() == InodeKind::kSlab) {
    inode()->ns->count_slab_open(static_cast<std::uint32_t>(inode()->id.key.lo), -1);
  }
}

void PassthroughHandle::released(FileSystem& fs) { fs.backings().release(inode()->nodeid); }

}  // namespace kvfs::mount
