#include "fs/mount/ioctls.h"

namespace kvfs::mount {

// On the reservation's descriptor: who may not store needs no memory for it.
void ioctl_provide(FileSystem&, const IoctlCall& call) {
  if (call.inode->kind() != InodeKind::kReserve) return reply(call.req, Refusal::kWrongDescriptor);
  ProvideMessage message;
  if (!read_message(call, message)) return;
  const auto has = call.inode->ns->provide(message.bytes);
  if (!has) return reply(call.req, has.error());
  message.bytes = *has;
  answer(call, message);
}

}  // namespace kvfs::mount
