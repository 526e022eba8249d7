#include "fs/mount/handle.h"

namespace kvfs::mount {

void Handle::read(FileSystem&, fuse_req_t req, std::uint64_t, std::size_t) {
  reply(req, Refusal::kBadMessage);
}
void Handle::write(FileSystem&, fuse_req_t req, std::uint64_t, std::span<const char>) {
  reply(req, Refusal::kWrongDescriptor);
}
void Handle::flush(FileSystem&, fuse_req_t req) { reply_ok(req); }
void Handle::sync(FileSystem&, fuse_req_t req) { reply_ok(req); }
void Handle::allocate(FileSystem&, fuse_req_t req, int, std::uint64_t, std::uint64_t) {
  reply(req, Refusal::kNotSupported);
}
void Handle::released(FileSystem&) {}

}  // namespace kvfs::mount
