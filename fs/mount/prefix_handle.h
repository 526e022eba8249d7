// PrefixHandle: an open prefix file, which is a lease.
#pragma once

#include <vector>

#include "fs/mount/handle.h"
#include "fs/mount/pending_reply.h"
#include "fs/mutex.h"

namespace kvfs::mount {

// Plain readers hold the prefix without being counted. A client that loads is counted when it opens
// (kLeaseOpenFlags), or else with its first EXTENTS.
//
// Threads: as Handle; the lease is used by one thread at a time, replies go out without its mutex.
// Owns:    the lease.
// Blocks:  never: what is not in DRAM is waited for by a parked request.
// Errors:  by reply.
class PrefixHandle final : public Handle {
 public:
  PrefixHandle(InodePtr inode, std::unique_ptr<store::Lease> lease, bool counted);

  void read(FileSystem& fs, fuse_req_t req, std::uint64_t offset, std::size_t size) override;
  void sync(FileSystem& fs, fuse_req_t req) override;
  // EXTENTS with a checked message.
  void extents(FileSystem& fs, fuse_req_t req, const ExtentsMessage& message);

 private:
  struct Reading;
  struct Asking;
  using ReadingPtr = std::shared_ptr<Reading>;
  using AskingPtr = std::shared_ptr<Asking>;

  // Reading, by the steps it takes: plan; where something is missing wait for it, then plan again.
  // What is planned stays in DRAM until replied() is called with it.
  Status plan(std::uint64_t offset, std::size_t size, store::ReadPlan& plan,
              store::Lease::Missing& missing);
  void replied(const store::ReadPlan& plan);
  // Lets go of blocks before `block`, but for those that a reply is being copied from. False: there
  // were such.
  bool done_before(std::uint32_t block) REQUIRES(mutex_);
  void wait_to_read(FileSystem& fs, const ReadingPtr& reading);
  void resume_read(FileSystem& fs, const ReadingPtr& reading, const Status& waited);

  // The same for extents.
  Result<std::uint32_t> fill(const ExtentsMessage& message, std::span<Extent> out);
  void wait_to_fill(FileSystem& fs, const AskingPtr& asking);
  void resume_fill(FileSystem& fs, const AskingPtr& asking, const Status& waited);
  Status begin(const ExtentsMessage& message);

  std::shared_ptr<PrefixHandle> self() {
    return std::static_pointer_cast<PrefixHandle>(shared_from_this());
  }

  const std::uint32_t blocks_;
  Mutex mutex_;  // before any lock of the store
  std::unique_ptr<store::Lease> lease_ PT_GUARDED_BY(mutex_);
  bool counted_ GUARDED_BY(mutex_);
  std::vector<std::uint32_t> replying_ GUARDED_BY(mutex_);  // first blocks of what is planned
};

}  // namespace kvfs::mount
