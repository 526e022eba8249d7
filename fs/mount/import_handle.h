// ImportHandle: an open file that is being copied into a namespace.
#pragma once

#include <string>

#include "fs/mount/handle.h"
#include "fs/mount/pending_reply.h"

namespace kvfs::mount {

// Threads: as Handle.
// Owns:    a share of the import. What is not stored at its last writer's close is dropped; a
//          reader's close says nothing about it.
// Blocks:  never: checking and storing run as a job.
// Errors:  flush(): what is wrong with the file, as EINVAL; the sentence goes to the log.
class ImportHandle final : public Handle {
 public:
  // `writes`: the import counts this handle among its writers.
  ImportHandle(InodePtr inode, bool writes) : Handle(std::move(inode)), writes_(writes) {}

  void read(FileSystem& fs, fuse_req_t req, std::uint64_t offset, std::size_t size) override;
  void write(FileSystem& fs, fuse_req_t req, std::uint64_t offset,
             std::span<const char> bytes) override;
  void flush(FileSystem& fs, fuse_req_t req) override;
  void sync(FileSystem& fs, fuse_req_t req) override;
  void allocate(FileSystem& fs, fuse_req_t req, int mode, std::uint64_t offset,
                std::uint64_t length) override;
  void released(FileSystem& fs) override;

 private:
  // Checks, stores and names it.
  Status finish(FileSystem& fs, pid_t writer);
  void settle(FileSystem& fs, const std::string& name, pid_t writer);

  const bool writes_;
};

}  // namespace kvfs::mount
