// Directories of plain directories are listed, synced, and say how full they are.
#include <dirent.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "fs/mount/file_system.h"
#include "fs/mount/plain_ops.h"
#include "fs/mount/reply.h"
#include "fs/plain/plain_store.h"
#include "fs/unique_fd.h"

namespace kvfs::mount {
namespace {

constexpr std::uint64_t kUnit = 4096;

plain::OsResult<UniqueFd> open_directory(FileSystem& fs, fuse_ino_t ino) {
  const InodePtr inode = fs.inodes().get(ino);
  if (inode == nullptr) return tl::unexpected(to_errno(Refusal::kStale));
  const plain::SharedLock shared = fs.plain()->tree().shared();
  if (inode->plain->gone) return tl::unexpected(to_errno(Refusal::kStale));
  return fs.plain()
      ->place(plain::Tree::path(*inode->plain))
      .and_then(&plain::Place::open_directory);
}

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

// The cookies are those of the file system below, so nothing is kept between two requests. `add`
// returns what an entry would take.
template <typename Add>
void list(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset, Add add) {
  auto fd = open_directory(fs, ino);
  if (!fd) {
    fuse_reply_err(req, fd.error());
    return;
  }
  const std::unique_ptr<DIR, CloseDirectory> stream(::fdopendir(fd->get()));
  if (stream == nullptr) {
    fuse_reply_err(req, errno);
    return;
  }
  static_cast<void>(fd->release());
  if (offset != 0) ::seekdir(stream.get(), offset);
  std::vector<char> out(size);
  std::size_t used = 0;
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());
    if (entry == nullptr && errno != 0 && used == 0) {  // else the next request meets it
      fuse_reply_err(req, errno);
      return;
    }
    if (entry == nullptr) break;
    struct stat status {};
    status.st_ino = entry->d_ino;
    status.st_mode = static_cast<mode_t>(entry->d_type) << 12;
    const std::size_t added = add(out.data() + used, size - used, *entry, status);
    if (added > size - used) break;
    used += added;
  }
  fuse_reply_buf(req, out.data(), used);
}

}  // namespace

void plain_opendir(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  if (fs.inodes().get(ino) == nullptr) return reply(req, Refusal::kStale);
  fuse_reply_open(req, fi);
}

void plain_readdir(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset,
                   fuse_file_info*) {
  list(fs, req, ino, size, offset,
       [req](char* out, std::size_t room, const dirent& entry, const struct stat& status) {
         return fuse_add_direntry(req, out, room, entry.d_name, &status, entry.d_off);
       });
}

// Names alone: attributes are looked up by whoever wants them. Most who list want names.
void plain_readdirplus(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, std::size_t size,
                       off_t offset, fuse_file_info*) {
  list(fs, req, ino, size, offset,
       [req](char* out, std::size_t room, const dirent& entry, const struct stat& status) {
         fuse_entry_param none{};
         none.attr = status;
         return fuse_add_direntry_plus(req, out, room, entry.d_name, &none, entry.d_off);
       });
}

void plain_fsyncdir(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, int, fuse_file_info*) {
  fs.jobs().post([&fs, ino, pending = fs.parked().park(req)] {
    const auto fd = open_directory(fs, ino);
    const int error = !fd ? fd.error() : ::fsync(fd->get()) == 0 ? 0 : errno;
    pending.answer([error](fuse_req_t later) { fuse_reply_err(later, error); });
  });
}

// Size and room of the plain directory: its quota, or what is left of the quota of all of them, or
// of the disk, where that is less.
void plain_statfs(FileSystem& fs, fuse_req_t req, fuse_ino_t ino) {
  const InodePtr inode = fs.inodes().get(ino);
  if (inode == nullptr) return reply(req, Refusal::kStale);
  const plain::Directory& top = *inode->plain->top;
  const plain::Evictor& evictor = fs.plain()->evictor();
  struct statvfs disk {};
  if (::fstatvfs(fs.plain()->root(), &disk) != 0) {
    fuse_reply_err(req, errno);
    return;
  }
  const std::uint64_t used = top.bytes();
  const std::uint64_t all = evictor.bytes();
  const auto left = [](std::uint64_t quota, std::uint64_t taken) {
    return quota - std::min(quota, taken);
  };
  const std::uint64_t free =
      std::min({left(evictor.quota_of(top), used), left(evictor.quota(), all),
                std::uint64_t{disk.f_bavail} * disk.f_frsize});
  struct statvfs out {};
  out.f_bsize = kUnit;
  out.f_frsize = kUnit;
  out.f_blocks = (used + free) / kUnit;
  out.f_bfree = free / kUnit;
  out.f_bavail = out.f_bfree;
  out.f_ffree = disk.f_ffree;
  out.f_favail = disk.f_favail;
  out.f_files = top.files() + disk.f_ffree;
  out.f_namemax = disk.f_namemax;
  fuse_reply_statfs(req, &out);
}

}  // namespace kvfs::mount
