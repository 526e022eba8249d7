// The EXTENTS half of PrefixHandle.
#include <array>

#include "fs/mount/file_system.h"
#include "fs/mount/prefix_handle.h"

namespace kvfs::mount {
namespace {

constexpr std::size_t kMaxExtents = (kMaxIoctlBytes - sizeof(ExtentsMessage)) / sizeof(Extent);

void reply_extents(fuse_req_t req, ExtentsMessage message, std::uint32_t blocks,
                   std::span<const Extent> extents) {
  message.capacity = static_cast<std::uint32_t>(extents.size());
  message.blocks = blocks;
  const std::array<iovec, 2> parts{
      {{&message, sizeof(message)}, {const_cast<Extent*>(extents.data()), extents.size_bytes()}}};
  fuse_reply_ioctl_iov(req, 0, parts.data(), 2);
}

}  // namespace

struct PrefixHandle::Asking {
  PendingReply reply;
  ExtentsMessage message;
  store::Deadline deadline;
};

// What the message asks for besides extents.
Status PrefixHandle::begin(const ExtentsMessage& message) {
  store::Namespace& ns = *inode()->ns;
  if (message.missed_blocks != 0) ns.report_missed(message.missed_blocks);
  const MutexLock lock(mutex_);
  if (!counted_) {
    counted_ = true;
    lease_->count_hit();
  }
  if (message.done_before != 0) done_before(message.done_before);
  if ((message.flags & kExtentsPromote) == 0 || message.first_block >= blocks_) return {};
  return lease_->promote(message.group, message.first_block, blocks_ - message.first_block);
}

Result<std::uint32_t> PrefixHandle::fill(const ExtentsMessage& message, std::span<Extent> out) {
  const MutexLock lock(mutex_);
  return lease_->extents(message.group, message.first_block, out);
}

void PrefixHandle::extents(FileSystem& fs, fuse_req_t req, const ExtentsMessage& message) {
  if (auto status = begin(message); !status) return reply(req, status.error());
  if (message.capacity == 0 || message.first_block == blocks_)
    return reply_extents(req, message, blocks_, {});

  std::array<Extent, kMaxExtents> out;
  const auto filled = fill(message, std::span(out).first(message.capacity));
  if (!filled) return reply(req, filled.error());
  if (*filled > 0) return reply_extents(req, message, blocks_, std::span(out).first(*filled));
  if ((message.flags & kExtentsPromote) == 0) {
    out[0] = {kSlabNotResident, 0};
    return reply_extents(req, message, blocks_, std::span(out).first(1));
  }
  const auto deadline = store::Clock::now() + std::chrono::milliseconds(message.timeout_ms);
  wait_to_fill(fs, std::make_shared<Asking>(Asking{fs.parked().park(req), message, deadline}));
}

void PrefixHandle::wait_to_fill(FileSystem& fs, const AskingPtr& asking) {
  const MutexLock lock(mutex_);
  lease_->when_resident(asking->message.group, asking->message.first_block, 1, asking->deadline,
                        [&fs, self = self(), asking](const Status& waited) {
                          fs.completions().post([&fs, self, asking, waited] {
                            self->resume_fill(fs, asking, waited);
                          });
                        });
}

void PrefixHandle::resume_fill(FileSystem& fs, const AskingPtr& asking, const Status& waited) {
  if (asking->reply.answered()) return;
  if (!waited) {
    asking->reply.refuse(waited.error());
    return;
  }
  std::array<Extent, kMaxExtents> out;
  const auto filled = fill(asking->message, std::span(out).first(asking->message.capacity));
  if (!filled) {
    asking->reply.refuse(filled.error());
  } else if (*filled == 0) {
    wait_to_fill(fs, asking);  // dropped again in between; the deadline stands
  } else {
    asking->reply.answer([&](fuse_req_t req) {
      reply_extents(req, asking->message, blocks_, std::span(out).first(*filled));
    });
  }
}

}  // namespace kvfs::mount
