#include <array>

#include "fs/mount/ioctls.h"
#include "fs/mount/reservation_handle.h"

namespace kvfs::mount {
namespace {

constexpr std::size_t kMaxExtents = (kMaxIoctlBytes - sizeof(JoinMessage)) / sizeof(Extent);

}  // namespace

void ioctl_join(FileSystem&, const IoctlCall& call) {
  if (call.inode->kind() != InodeKind::kReserve) return reply(call.req, Refusal::kWrongDescriptor);
  JoinMessage message;
  if (!read_message(call, message)) return;
  if (!fits<JoinMessage, Extent>(call, message.capacity))
    return reply(call.req, Refusal::kBadMessage);
  std::array<Extent, kMaxExtents> out;
  const auto joined = static_cast<ReservationHandle&>(*call.handle)
                          .join(message.reservation_id, message.first_block,
                                std::span(out).first(message.capacity));
  if (!joined) return reply(call.req, joined.error());
  message.capacity = joined->first;
  message.blocks = joined->second;
  answer(call, message, std::span(out).first(joined->first));
}

}  // namespace kvfs::mount
