#include "fs/mount/prefix_handle.h"

#include <algorithm>

#include "fs/mount/file_system.h"
#include "fs/mount/reply_pieces.h"

namespace kvfs::mount {

struct PrefixHandle::Reading {
  PendingReply reply;
  std::uint64_t offset;
  std::size_t size;
  store::Deadline deadline;
  store::Lease::Missing missing;
  bool made_room = false;
};

PrefixHandle::PrefixHandle(InodePtr inode, std::unique_ptr<store::Lease> lease, bool counted)
    : Handle(std::move(inode)),
      blocks_(lease->blocks()),
      lease_(std::move(lease)),
      counted_(counted) {}

Status PrefixHandle::plan(std::uint64_t offset, std::size_t size, store::ReadPlan& plan,
                          store::Lease::Missing& missing) {
  const MutexLock lock(mutex_);
  Status status = lease_->read(offset, size, plan, missing);
  if (status) replying_.push_back(plan.first_block);
  return status;
}

void PrefixHandle::replied(const store::ReadPlan& plan) {
  const MutexLock lock(mutex_);
  const auto found = std::ranges::find(replying_, plan.first_block);
  *found = replying_.back();
  replying_.pop_back();
}

bool PrefixHandle::done_before(std::uint32_t block) {
  std::uint32_t end = block;
  for (const std::uint32_t first : replying_) end = std::min(end, first);
  lease_->done_before(end);
  return end == block;
}

void PrefixHandle::read(FileSystem& fs, fuse_req_t req, std::uint64_t offset, std::size_t size) {
  thread_local store::ReadPlan pieces;  // keeps its memory from one request to the next
  store::Lease::Missing missing;
  const Status status = plan(offset, size, pieces, missing);
  if (status) {
    reply_pieces(req, pieces);
    return replied(pieces);
  }
  if (status.error().code != Code::kUnavailable) return reply(req, status.error());
  auto reading =
      std::make_shared<Reading>(Reading{fs.parked().park(req), offset, size,
                                        store::Clock::now() + fs.config().read_timeout, missing});
  wait_to_read(fs, reading);
}

void PrefixHandle::wait_to_read(FileSystem& fs, const ReadingPtr& reading) {
  const store::Lease::Missing missing = reading->missing;
  const MutexLock lock(mutex_);
  lease_->when_resident(missing.group, missing.first, missing.count, reading->deadline,
                        [&fs, self = self(), reading](const Status& waited) {
                          fs.completions().post([&fs, self, reading, waited] {
                            self->resume_read(fs, reading, waited);
                          });
                        });
}

void PrefixHandle::resume_read(FileSystem& fs, const ReadingPtr& reading, const Status& waited) {
  if (reading->reply.answered()) return;
  if (!waited) {
    // A prefix larger than DRAM can still be read from front to back: what was read may leave.
    if (waited.error().code != Code::kNoSpace || reading->made_room) {
      reading->reply.refuse(waited.error());
      return;
    }
    {
      const MutexLock lock(mutex_);
      reading->made_room = done_before(reading->missing.first);  // else a reply is soon over
    }
    return wait_to_read(fs, reading);
  }
  store::ReadPlan pieces;
  const Status status = plan(reading->offset, reading->size, pieces, reading->missing);
  if (status) {
    reading->reply.answer([&pieces](fuse_req_t req) { reply_pieces(req, pieces); });
    replied(pieces);
  } else if (status.error().code == Code::kUnavailable) {
    wait_to_read(fs, reading);
  } else {
    reading->reply.refuse(status.error());
  }
}

void PrefixHandle::sync(FileSystem& fs, fuse_req_t req) {
  const PendingReply pending = fs.parked().park(req);
  const MutexLock lock(mutex_);
  lease_->flush(store::Clock::now() + fs.config().flush_timeout,
                [&fs, pending, self = self()](const Status& status) {
                  fs.completions().post([pending, self, status] { pending.finish(status); });
                });
}

}  // namespace kvfs::mount
