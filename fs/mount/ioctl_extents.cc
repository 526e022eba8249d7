#include "fs/mount/ioctls.h"
#include "fs/mount/prefix_handle.h"

namespace kvfs::mount {

void ioctl_extents(FileSystem& fs, const IoctlCall& call) {
  if (call.inode->kind() != InodeKind::kPrefix || call.handle == nullptr) {
    return reply(call.req, Refusal::kWrongDescriptor);
  }
  ExtentsMessage message;
  if (!read_message(call, message)) return;
  const bool known_flags = (message.flags & ~std::uint32_t{kExtentsPromote}) == 0;
  const bool known_group = message.group < call.inode->ns->geometry().groups.size();
  if (!known_flags || !known_group || !fits<ExtentsMessage, Extent>(call, message.capacity)) {
    return reply(call.req, Refusal::kBadMessage);
  }
  static_cast<PrefixHandle&>(*call.handle).extents(fs, call.req, message);
}

}  // namespace kvfs::mount
