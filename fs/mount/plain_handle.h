// PlainHandle: an open file of a plain directory.
#pragma once

#include "fs/mount/handle.h"
#include "fs/plain/open_files.h"

namespace kvfs::mount {

// In passthrough the kernel reads, writes and maps the file below itself, and comes here with the
// rest; without it, reads and writes come here, too.
//
// Threads: as Handle.
// Owns:    one open of the file, and in passthrough one of the inode's backing id.
// Blocks:  never: what waits for room or the disk is a job.
// Errors:  errno of the file system below; no room after store_timeout is ENOSPC.
class PlainHandle final : public Handle {
 public:
  PlainHandle(InodePtr inode, plain::Opened file, bool passthrough)
      : Handle(std::move(inode)), file_(std::move(file)), passthrough_(passthrough) {}

  [[nodiscard]] plain::OpenFile& file() const { return *file_; }

  void read(FileSystem& fs, fuse_req_t req, std::uint64_t offset, std::size_t size) override;
  void write(FileSystem& fs, fuse_req_t req, std::uint64_t offset,
             std::span<const char> bytes) override;
  // Of a writer: the last moment to say that what was written has no room.
  void flush(FileSystem& fs, fuse_req_t req) override;
  void sync(FileSystem& fs, fuse_req_t req) override;
  void allocate(FileSystem& fs, fuse_req_t req, int mode, std::uint64_t offset,
                std::uint64_t length) override;
  void released(FileSystem& fs) override;

 private:
  plain::Opened file_;
  const bool passthrough_;
};

}  // namespace kvfs::mount
