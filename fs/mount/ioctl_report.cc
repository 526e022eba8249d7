#include "fs/mount/ioctls.h"

namespace kvfs::mount {

void ioctl_report(FileSystem&, const IoctlCall& call) {
  if (call.inode->kind() != InodeKind::kNamespace)
    return reply(call.req, Refusal::kWrongDescriptor);
  ReportMessage message;
  if (!read_message(call, message)) return;
  call.inode->ns->report_missed(message.missed_blocks);
  call.inode->ns->report_loaded(message.loaded_bytes, message.gpu_bytes);
  answer(call, message);
}

}  // namespace kvfs::mount
