#include "fs/mount/ioctls.h"

namespace kvfs::mount {

void ioctl_match(FileSystem&, const IoctlCall& call) {
  if (call.inode->kind() != InodeKind::kNamespace)
    return reply(call.req, Refusal::kWrongDescriptor);
  MatchMessage message;
  if (!read_message(call, message)) return;
  if (!fits<MatchMessage, Key>(call, message.count)) return reply(call.req, Refusal::kBadMessage);
  // The kernel's copy begins 8-aligned, and the fixed part is a multiple of 8.
  const auto* keys = reinterpret_cast<const Key*>(call.in.data() + sizeof(message));
  message.found = call.inode->ns->match({keys, message.count});
  answer(call, message);
}

}  // namespace kvfs::mount
