#include "fs/mount/ioctls.h"
#include "fs/mount/reservation_handle.h"

namespace kvfs::mount {

void ioctl_commit(FileSystem&, const IoctlCall& call) {
  if (call.inode->kind() != InodeKind::kReserve) return reply(call.req, Refusal::kWrongDescriptor);
  CommitMessage message;
  if (!read_message(call, message)) return;
  const auto committed = static_cast<ReservationHandle&>(*call.handle).commit(message.blocks);
  if (!committed) return reply(call.req, committed.error());
  message.committed = committed->committed;
  message.present = committed->present;
  message.tip = committed->tip;
  answer(call, message);
}

}  // namespace kvfs::mount
