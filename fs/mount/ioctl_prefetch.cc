#include "fs/mount/ioctls.h"

namespace kvfs::mount {

void ioctl_prefetch(FileSystem&, const IoctlCall& call) {
  if (call.inode->kind() != InodeKind::kNamespace)
    return reply(call.req, Refusal::kWrongDescriptor);
  PrefetchMessage message;
  if (!read_message(call, message)) return;
  if (auto status = call.inode->ns->prefetch(message.tip); !status)
    return reply(call.req, status.error());
  answer(call, message);
}

}  // namespace kvfs::mount
