#include "fs/mount/file_system.h"
#include "fs/mount/ioctls.h"

namespace kvfs::mount {

void ioctl_hello(FileSystem& fs, const IoctlCall& call) {
  HelloMessage message;
  if (!read_message(call, message)) return;
  if (message.abi_version != kAbiVersion) return reply(call.req, Refusal::kOtherAbi);
  message.passthrough = fs.passthrough() ? 1 : 0;
  message.daemon_epoch = fs.store().epoch();
  answer(call, message);
}

}  // namespace kvfs::mount
