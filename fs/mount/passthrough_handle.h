// PassthroughHandle: an open slab or index; the kernel reads, writes and maps its backing directly.
#pragma once

#include "fs/mount/handle.h"

namespace kvfs::mount {

// Threads: as Handle.
// Owns:    one open of the inode's backing id, and for a slab one count of its opens, which keeps
// the
//          slab's file until clients have let go of it.
// Blocks:  never.
// Errors:  none.
class PassthroughHandle final : public Handle {
 public:
  explicit PassthroughHandle(InodePtr inode) : Handle(std::move(inode)) {}
  ~PassthroughHandle() override;
  void released(FileSystem& fs) override;
};

}  // namespace kvfs::mount
