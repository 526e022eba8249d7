#include "fs/mount/plain_entry.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "fs/mount/attributes.h"
#include "fs/mount/directory.h"

namespace kvfs::mount {

plain::OsResult<PlainPlace> plain_place(FileSystem& fs, fuse_ino_t parent, const char* name) {
  plain::SharedLock lock = fs.plain()->tree().shared();
  InodePtr directory = fs.inodes().get(parent);
  if (directory == nullptr || directory->plain->gone)
    return tl::unexpected(to_errno(Refusal::kStale));
  auto at = fs.plain()->place(plain::Tree::path(*directory->plain, name));
  if (!at) return tl::unexpected(at.error());
  return PlainPlace{std::move(lock), std::move(directory), std::move(*at)};
}

InodePtr look_up_plain(FileSystem& fs, const PlainPlace& place, const char* name,
                       const struct stat& status) {
  auto node = fs.plain()->tree().child(place.directory->plain, name, S_ISDIR(status.st_mode));
  if (node->is_directory) node->ask();
  return fs.inodes().look_up(plain_inode(std::move(node), status));
}

void reply_plain_entry(FileSystem& fs, fuse_req_t req, const InodePtr& inode,
                       const struct stat& status) {
  fuse_entry_param entry = entry_param(fs, *inode, status);
  // Who asks for a directory that may leave as a whole is heard of each time.
  const plain::Node& node = *inode->plain;
  if (node.is_directory && node.top->unit() == plain::Unit::kDirectory) entry.entry_timeout = 0;
  if (fuse_reply_entry(req, &entry) != 0) fs.inodes().forget(inode->nodeid, 1);
}

plain::OsResult<struct stat> own_plain(const fuse_ctx& caller, const PlainPlace& place,
                                       std::optional<mode_t> mode) {
  const int above = place.at.directory();
  const char* name = place.at.name();
  auto made = place.at.attributes();
  if (!made) return made;
  struct stat directory {};
  if (::fstat(above, &directory) != 0) return tl::unexpected(errno);
  const gid_t group = (directory.st_mode & S_ISGID) != 0 ? directory.st_gid : caller.gid;
  if (made->st_uid != caller.uid || made->st_gid != group) {
    if (::fchownat(above, name, caller.uid, group, AT_SYMLINK_NOFOLLOW) != 0)
      return tl::unexpected(errno);
    made->st_uid = caller.uid;
    made->st_gid = group;
  }
  if (mode && ((made->st_mode ^ *mode) & 0777) != 0) {
    made->st_mode = (made->st_mode & ~0777U) | (*mode & 0777);
    if (::fchmodat(above, name, made->st_mode & 07777, AT_SYMLINK_NOFOLLOW) != 0)
      return tl::unexpected(errno);
  }
  const plain::DirectoryPtr& top = place.directory->plain->top;
  top->made();
  if (S_ISREG(made->st_mode)) top->add(0, 1);
  return made;
}

}  // namespace kvfs::mount
