// GpuSlabHandle: an open GPU slab. Its content says how to map the memory; while it is open the
// memory stays.
#pragma once

#include "fs/mount/handle.h"
#include "gpu/shared_memory.h"

namespace kvfs::mount {

// Threads: as Handle.
// Owns:    one count of the slab's opens: whoever maps the memory keeps the descriptor, so that the
//          daemon knows, of clients that were killed too.
// Blocks:  never.
// Errors:  none.
class GpuSlabHandle final : public Handle {
 public:
  // The open is counted already.
  GpuSlabHandle(InodePtr inode, const gpu::SharedHandle& memory)
      : Handle(std::move(inode)), memory_(memory) {}
  ~GpuSlabHandle() override;
  void read(FileSystem& fs, fuse_req_t req, std::uint64_t offset, std::size_t size) override;

 private:
  const gpu::SharedHandle memory_;
};

}  // namespace kvfs::mount
