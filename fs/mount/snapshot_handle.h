// SnapshotHandle: an open virtual file. Its text is made at open and stays as it was.
#pragma once

#include <string>

#include "fs/mount/handle.h"

namespace kvfs::mount {

class SnapshotHandle final : public Handle {
 public:
  SnapshotHandle(InodePtr inode, std::string text)
      : Handle(std::move(inode)), text_(std::move(text)) {}
  void read(FileSystem& fs, fuse_req_t req, std::uint64_t offset, std::size_t size) override;

 private:
  const std::string text_;
};

}  // namespace kvfs::mount
