#include "fs/mount/snapshot_handle.h"

#include <algorithm>

namespace kvfs::mount {

void SnapshotHandle::read(FileSystem&, fuse_req_t req, std::uint64_t offset, std::size_t size) {
  const auto from = static_cast<std::size_t>(std::min<std::uint64_t>(offset, text_.size()));
  fuse_reply_buf(req, text_.data() + from, std::min(size, text_.size() - from));
}

}  // namespace kvfs::mount
