// One function per ioctl of lib/format/ioctls.h: ioctl_<name>.cc.
#pragma once

#include <cstring>
#include <span>

#include "fs/mount/handle.h"
#include "lib/format/ioctls.h"

namespace kvfs::mount {

// A call as the kernel passed it. `in` is the daemon's own copy: it cannot change under the checks.
// The answer may carry as many bytes, no more.
struct IoctlCall {
  fuse_req_t req;
  InodePtr inode;
  HandlePtr handle;  // null for directories
  std::span<const std::byte> in;
};

void ioctl_hello(FileSystem& fs, const IoctlCall& call);
void ioctl_match(FileSystem& fs, const IoctlCall& call);
void ioctl_slabs(FileSystem& fs, const IoctlCall& call);
void ioctl_prefetch(FileSystem& fs, const IoctlCall& call);
void ioctl_report(FileSystem& fs, const IoctlCall& call);
void ioctl_extents(FileSystem& fs, const IoctlCall& call);
void ioctl_reserve(FileSystem& fs, const IoctlCall& call);
void ioctl_join(FileSystem& fs, const IoctlCall& call);
void ioctl_commit(FileSystem& fs, const IoctlCall& call);
void ioctl_provide(FileSystem& fs, const IoctlCall& call);

// The message's fixed part; false (and answered) when the call is too short for it.
template <typename Message>
bool read_message(const IoctlCall& call, Message& message) {
  if (call.in.size() < sizeof(Message)) {
    reply(call.req, Refusal::kBadMessage);
    return false;
  }
  std::memcpy(&message, call.in.data(), sizeof(Message));
  return true;
}

// Whether `count` items of T fit behind the message, in and out.
template <typename Message, typename T>
bool fits(const IoctlCall& call, std::uint64_t count) {
  return count <= (call.in.size() - sizeof(Message)) / sizeof(T);
}

template <typename Message>
void answer(const IoctlCall& call, const Message& message) {
  fuse_reply_ioctl(call.req, 0, &message, sizeof(message));
}

template <typename Message, typename T>
void answer(const IoctlCall& call, Message message, std::span<T> array) {
  const iovec parts[2] = {{&message, sizeof(message)}, {array.data(), array.size_bytes()}};
  fuse_reply_ioctl_iov(call.req, 0, parts, 2);
}

}  // namespace kvfs::mount
