// ImportHandle: an open file that is being copied into a namespace.
#pragma once

#include <atomic>
#include <string>

#include "fs/mount/handle.h"
#include "fs/mount/pending_reply.h"

namespace kvfs::mount {

// Threads: as Handle.
// Owns:    a share of the import. What is not stored at the last close is dropped.
// Blocks:  never: checking and storing run as a job.
// Errors:  flush(): what is wrong with the file, as EINVAL; the sentence goes to the log.
class ImportHandle final : public Handle {
 public:
  explicit ImportHandle(InodePtr inode) : Handle(std::move(inode)) {}

  void read(FileSystem& fs, fuse_req_t req, std::uint64_t offset, std::size_t size) override;
  void write(FileSystem& fs, fuse_req_t req, std::uint64_t offset,
             std::span<const char> bytes) override;
  void flush(FileSystem& fs, fuse_req_t req) override;
  void sync(FileSystem& fs, fuse_req_t req) override;
  void allocate(FileSystem& fs, fuse_req_t req, int mode, std::uint64_t offset,
                std::uint64_t length) override;
  void released(FileSystem& fs, fuse_req_t req) override;

 private:
  // Checks, stores and names it.
  Status finish(FileSystem& fs, pid_t writer);
  void settle(FileSystem& fs, const std::string& name, pid_t writer);

  std::atomic<bool> named_{
      false};  // what was stored has its name; jobs of one handle may run side by side
};

}  // namespace kvfs::mount
