// Handle: what an open descriptor means. One class per kind, each in its own file.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "fs/mount/inode.h"
#include "fs/mount/reply.h"

namespace kvfs::mount {

class FileSystem;

// What a handle does with requests of its descriptor; the defaults refuse. Each call answers `req`,
// now or later.
//
// Threads: calls from any thread, several at once.
// Owns:    as the kind says; its destructor gives it back. Shared with requests that wait, so it
// may
//          outlive the descriptor for a moment.
// Blocks:  never for long: what waits is parked.
// Errors:  by reply.
class Handle : public std::enable_shared_from_this<Handle> {
 public:
  explicit Handle(InodePtr inode) : inode_(std::move(inode)) {}
  virtual ~Handle() = default;
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  [[nodiscard]] const InodePtr& inode() const { return inode_; }

  virtual void read(FileSystem& fs, fuse_req_t req, std::uint64_t offset, std::size_t size);
  virtual void write(FileSystem& fs, fuse_req_t req, std::uint64_t offset,
                     std::span<const char> bytes);
  // A descriptor was closed; there may be others of the same open.
  virtual void flush(FileSystem& fs, fuse_req_t req);
  virtual void sync(FileSystem& fs, fuse_req_t req);
  virtual void allocate(FileSystem& fs, fuse_req_t req, int mode, std::uint64_t offset,
                        std::uint64_t length);
  // The last descriptor was closed, or nobody got one: the caller was gone when it was opened.
  virtual void released(FileSystem& fs);

 private:
  const InodePtr inode_;
};
using HandlePtr = std::shared_ptr<Handle>;

}  // namespace kvfs::mount
