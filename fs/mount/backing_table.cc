#include "fs/mount/backing_table.h"

#include <sys/ioctl.h>

#include <cstdint>

namespace kvfs::mount {
namespace {

// FUSE_DEV_IOC_BACKING_CLOSE, which older headers do not have. fuse_passthrough_close() wants a
// request, and a reply that failed has freed it.
constexpr unsigned long kBackingClose = _IOW(229, 2, std::uint32_t);

}  // namespace

Result<int> BackingTable::acquire(fuse_req_t req, fuse_ino_t nodeid, int fd) {
  const MutexLock lock(mutex_);
  if (const auto found = backings_.find(nodeid); found != backings_.end()) {
    ++found->second.opens;
    return found->second.id;
  }
  const int id = fuse_passthrough_open(req, fd);
  if (id <= 0)
    return fail(Code::kUnavailable, "the kernel does not take this file for passthrough");
  backings_.emplace(nodeid, Backing{id, 1});
  return id;
}

void BackingTable::release(fuse_ino_t nodeid) {
  const MutexLock lock(mutex_);
  const auto found = backings_.find(nodeid);
  if (found == backings_.end() || --found->second.opens != 0) return;
  const auto id = static_cast<std::uint32_t>(found->second.id);
  ::ioctl(fuse_session_fd(session_), kBackingClose, &id);
  backings_.erase(found);
}

std::size_t BackingTable::open() const {
  const MutexLock lock(mutex_);
  return backings_.size();
}

}  // namespace kvfs::mount
