// The RESERVE half of ReservationHandle.
#include <algorithm>
#include <array>
#include <chrono>

#include "fs/mount/file_system.h"
#include "fs/mount/reservation_handle.h"

namespace kvfs::mount {
namespace {

constexpr std::size_t kMaxExtents = (kMaxIoctlBytes - sizeof(ReserveMessage)) / sizeof(Extent);

void reply_extents(fuse_req_t req, ReserveMessage message, std::uint64_t id,
                   std::span<Extent> extents) {
  message.reservation_id = id;
  const std::array<iovec, 2> parts{
      {{&message, sizeof(message)}, {extents.data(), extents.size_bytes()}}};
  fuse_reply_ioctl_iov(req, 0, parts.data(), 2);
}

}  // namespace

struct ReservationHandle::Asking {
  PendingReply reply;
  ReserveMessage message;
  std::vector<Token> tokens;
  std::vector<ExtraAt> extras;
  store::Deadline give_up;
};

void ReservationHandle::reserve(FileSystem& fs, fuse_req_t req, const ReserveMessage& message,
                                std::span<const Token> tokens, std::span<const ExtraAt> extras) {
  const std::unique_lock lock(mutex_);
  if (reservation_ == nullptr) reservation_ = inode()->ns->reserve();
  std::array<Extent, kMaxExtents> out;
  const auto extents = std::span(out).first(message.blocks * group_bytes_.size());
  const std::chrono::milliseconds wait = fs.config().store_timeout;
  const store::Deadline give_up =
      store::Clock::now() + wait - std::min(wait, std::chrono::milliseconds(message.waited_ms));
  const auto reserved = reservation_->reserve(message.parent, tokens, extras, extents, give_up);
  if (reserved) return reply_extents(req, message, reservation_->id(), extents);
  if (reserved.error().code != Code::kBusy) return reply(req, reserved.error());
  wait_for_room(fs, std::make_shared<Asking>(Asking{fs.parked().park(req),
                                                    message,
                                                    {tokens.begin(), tokens.end()},
                                                    {extras.begin(), extras.end()},
                                                    give_up}));
}

void ReservationHandle::wait_for_room(FileSystem& fs, const AskingPtr& asking) {
  reservation_->when_room(asking->give_up, [&fs, self = self(), asking](const Status&) {
    fs.completions().post([&fs, self, asking] { self->resume_reserve(fs, asking); });
  });
}

void ReservationHandle::resume_reserve(FileSystem& fs, const AskingPtr& asking) {
  if (asking->reply.answered()) return;
  const std::unique_lock lock(mutex_);
  std::array<Extent, kMaxExtents> out;
  const auto extents = std::span(out).first(asking->message.blocks * group_bytes_.size());
  const auto reserved = reservation_->reserve(asking->message.parent, asking->tokens,
                                              asking->extras, extents, asking->give_up);
  if (!reserved && reserved.error().code == Code::kBusy) return wait_for_room(fs, asking);
  if (!reserved) {
    asking->reply.refuse(reserved.error());
    return;
  }
  const bool answered = asking->reply.answer(
      [&](fuse_req_t req) { reply_extents(req, asking->message, reservation_->id(), extents); });
  // Interrupted just now: the caller knows of no slots, and will ask again or go.
  if (!answered) reservation_->withdraw(asking->message.blocks);
}

}  // namespace kvfs::mount
