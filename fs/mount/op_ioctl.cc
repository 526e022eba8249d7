#include <linux/ioctl.h>

#include "fs/mount/file_system.h"
#include "fs/mount/ioctls.h"
#include "fs/mount/ops.h"

namespace kvfs::mount {
namespace {

void dispatch(FileSystem& fs, const IoctlCall& call, unsigned int number) {
  switch (number) {
    case kIoctlHello:
      return ioctl_hello(fs, call);
    case kIoctlMatch:
      return ioctl_match(fs, call);
    case kIoctlSlabs:
      return ioctl_slabs(fs, call);
    case kIoctlPrefetch:
      return ioctl_prefetch(fs, call);
    case kIoctlExtents:
      return ioctl_extents(fs, call);
    case kIoctlReserve:
      return ioctl_reserve(fs, call);
    case kIoctlJoin:
      return ioctl_join(fs, call);
    case kIoctlCommit:
      return ioctl_commit(fs, call);
    case kIoctlReport:
      return ioctl_report(fs, call);
    case kIoctlProvide:
      return ioctl_provide(fs, call);
    default:
      return reply(call.req, Refusal::kUnknownIoctl);
  }
}

}  // namespace

void op_ioctl(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, unsigned int command, void*,
              fuse_file_info* fi, unsigned int flags, const void* in, std::size_t in_bytes,
              std::size_t out_bytes) {
  const InodePtr inode = fs.inodes().get_opened(ino);
  if (inode == nullptr) return reply(req, Refusal::kStale);
  if (command != ioctl_command(_IOC_NR(command), _IOC_SIZE(command)))
    return reply(req, Refusal::kUnknownIoctl);
  if (in_bytes != _IOC_SIZE(command) || out_bytes != in_bytes)
    return reply(req, Refusal::kBadMessage);
  HandlePtr handle;
  if ((flags & FUSE_IOCTL_DIR) == 0) {
    handle = fs.handles().get(fi->fh);
    if (handle == nullptr) return reply(req, Refusal::kWrongDescriptor);
  }
  dispatch(fs, {req, inode, std::move(handle), {static_cast<const std::byte*>(in), in_bytes}},
           _IOC_NR(command));
}

}  // namespace kvfs::mount
