#include "fs/mount/plain_handle.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "fs/mount/file_system.h"
#include "fs/mount/plain_room.h"
#include "fs/plain/plain_store.h"

namespace kvfs::mount {
namespace {

// By how much a file of `size` grows when it is written up to `end`.
std::uint64_t growth(int fd, std::uint64_t end) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return 0;
  const auto size = static_cast<std::uint64_t>(status.st_size);
  return plain::counted_bytes(std::max(size, end)) - plain::counted_bytes(size);
}

void write_all(fuse_req_t req, plain::OpenFile& file, std::uint64_t offset,
               std::span<const char> bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t wrote = ::pwrite(file.fd(), bytes.data() + done, bytes.size() - done,
                                   static_cast<off_t>(offset + done));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0 && done == 0) {
      fuse_reply_err(req, errno);
      return;
    }
    if (wrote <= 0) break;
    done += static_cast<std::size_t>(wrote);
  }
  file.count();
  fuse_reply_write(req, done);
}

}  // namespace

void PlainHandle::read(FileSystem&, fuse_req_t req, std::uint64_t offset, std::size_t size) {
  fuse_bufvec bytes = FUSE_BUFVEC_INIT(size);
  bytes.buf[0].flags = static_cast<fuse_buf_flags>(FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK);
  bytes.buf[0].fd = file_->fd();
  bytes.buf[0].pos = static_cast<off_t>(offset);
  fuse_reply_data(req, &bytes, FUSE_BUF_SPLICE_MOVE);
}

void PlainHandle::write(FileSystem& fs, fuse_req_t req, std::uint64_t offset,
                        std::span<const char> bytes) {
  const std::uint64_t more = growth(file_->fd(), offset + bytes.size());
  if (fs.plain()->evictor().has_room(*file_->top(), more))
    return write_all(req, *file_, offset, bytes);
  // The request's buffer is libfuse's: it does not outlive this call.
  when_room(fs, req, file_->top(), more,
            [self = std::static_pointer_cast<PlainHandle>(shared_from_this()), offset,
             copy = std::string(bytes.data(), bytes.size())](fuse_req_t later) {
              write_all(later, *self->file_, offset, copy);
            });
}

void PlainHandle::flush(FileSystem& fs, fuse_req_t req) {
  if (!file_.writes()) return reply_ok(req);
  file_->count();
  when_room(fs, req, file_->top(), 0, [](fuse_req_t later) { reply_ok(later); });
}

void PlainHandle::sync(FileSystem& fs, fuse_req_t req) {
  fs.jobs().post([self = std::static_pointer_cast<PlainHandle>(shared_from_this()),
                  pending = fs.parked().park(req)] {
    const int error = self->file_->sync();
    pending.answer([error](fuse_req_t later) { fuse_reply_err(later, error); });
  });
}

void PlainHandle::allocate(FileSystem& fs, fuse_req_t req, int mode, std::uint64_t offset,
                           std::uint64_t length) {
  const bool grows = (mode & FALLOC_FL_KEEP_SIZE) == 0;
  // Space beyond the end is counted by nobody.
  if (!grows && (mode & FALLOC_FL_PUNCH_HOLE) == 0) return reply(req, Refusal::kNotSupported);
  const std::uint64_t more = grows ? growth(file_->fd(), offset + length) : 0;
  when_room(fs, req, file_->top(), more,
            [self = std::static_pointer_cast<PlainHandle>(shared_from_this()), mode, offset,
             length](fuse_req_t later) {
              const int done = ::fallocate(self->file_->fd(), mode, static_cast<off_t>(offset),
                                           static_cast<off_t>(length));
              const int error = done == 0 ? 0 : errno;
              self->file_->count();
              fuse_reply_err(later, error);
            });
}

void PlainHandle::released(FileSystem& fs) {
  if (passthrough_) fs.backings().release(inode()->nodeid);
  file_.finish();
}

}  // namespace kvfs::mount
