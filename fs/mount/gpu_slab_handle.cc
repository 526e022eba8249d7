#include "fs/mount/gpu_slab_handle.h"

#include <algorithm>
#include <span>

namespace kvfs::mount {

GpuSlabHandle::~GpuSlabHandle() {
  inode()->ns->count_slab_open(static_cast<std::uint32_t>(inode()->id.key.lo), -1);
}

void GpuSlabHandle::read(FileSystem&, fuse_req_t req, std::uint64_t offset, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(&memory_, 1));
  const auto rest = bytes.subspan(std::min<std::size_t>(offset, bytes.size()));
  fuse_reply_buf(req, reinterpret_cast<const char*>(rest.data()), std::min(size, rest.size()));
}

}  // namespace kvfs::mount
