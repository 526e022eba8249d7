// Names in plain directories: they are looked up, made, moved and removed.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>

#include "fs/mount/plain_entry.h"
#include "fs/mount/plain_ops.h"

namespace kvfs::mount {
namespace {

struct FoundEntry {
  InodePtr inode;
  struct stat status;
};

// Nothing: what a daemon that died left incomplete had the name, and perhaps is no more.
plain::OsResult<std::optional<FoundEntry>> find_once(FileSystem& fs, fuse_ino_t parent,
                                                     const char* name) {
  auto place = plain_place(fs, parent, name);
  if (!place) return tl::unexpected(place.error());
  plain::PlainStore& plain = *fs.plain();
  const auto status = place->at.attributes();
  if (!status) {
    if (status.error() == ENOENT) place->directory->plain->top->missed();
    return tl::unexpected(status.error());
  }
  InodePtr inode = look_up_plain(fs, *place, name, *status);
  if (!S_ISREG(status->st_mode) || !plain.is_incomplete(place->at, status->st_ino))
    return FoundEntry{std::move(inode), *status};
  place->lock.unlock();
  const bool went = plain.drop(inode->plain, status->st_ino, plain::Loss::kIncomplete);
  fs.inodes().forget(inode->nodeid, 1);
  if (went) return tl::unexpected(ENOENT);
  return std::nullopt;
}

// What does not go is being written: somebody opened it between two looks.
plain::OsResult<FoundEntry> find(FileSystem& fs, fuse_ino_t parent, const char* name) {
  for (int look = 0; look < 3; ++look) {
    auto found = find_once(fs, parent, name);
    if (!found) return tl::unexpected(found.error());
    if (*found) return std::move(**found);
  }
  return tl::unexpected(ENOENT);
}

template <typename Make>
void make(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name,
          std::optional<mode_t> mode, Make make_it) {
  const auto made = [&]() -> plain::OsResult<FoundEntry> {
    auto place = plain_place(fs, parent, name);
    if (!place) return tl::unexpected(place.error());
    if (make_it(*place) != 0) return tl::unexpected(errno);
    auto status = own_plain(*fuse_req_ctx(req), *place, mode);
    if (!status) return tl::unexpected(status.error());
    return FoundEntry{look_up_plain(fs, *place, name, *status), *status};
  }();
  if (!made) {
    fuse_reply_err(req, made.error());
    return;
  }
  reply_plain_entry(fs, req, made->inode, made->status);
}

void detach(FileSystem& fs, const plain::NodePtr& node) {
  if (node == nullptr) return;  // the kernel does not know it
  const auto kind = node->is_directory ? InodeKind::kPlainDirectory : InodeKind::kPlainFile;
  fs.inodes().detach({kind, 0, {node->serial, 0}, {}});
}

plain::OsStatus remove(FileSystem& fs, fuse_ino_t parent, const char* name, int flags) {
  auto place = plain_place(fs, parent, name);
  if (!place) return tl::unexpected(place.error());
  const auto& directory = *place->directory->plain;
  const plain::Leaving leaving = fs.plain()->leaving(directory.top, place->at);
  if (::unlinkat(place->at.directory(), place->at.name(), flags) != 0) return tl::unexpected(errno);
  leaving.gone();
  detach(fs, fs.plain()->tree().remove(directory, name));
  return {};
}

// Somebody may have found a file under the name and be about to open it.
std::shared_ptr<plain::Opened> keep_displaced(plain::PlainStore& plain, const plain::NodePtr& node,
                                              const plain::Place& place) {
  if (node == nullptr || node->is_directory) return nullptr;
  auto file = plain.files().open(place, plain::Access::kRead, node->top);
  if (!file) return nullptr;
  plain.tree().set_open(*node, file->file());
  return std::make_shared<plain::Opened>(std::move(*file));
}

// Within one plain directory: each has a quota of its own.
plain::OsStatus rename(FileSystem& fs, fuse_ino_t parent, const char* name, fuse_ino_t new_parent,
                       const char* new_name, unsigned int flags) {
  if ((flags & ~unsigned{RENAME_NOREPLACE}) != 0) return tl::unexpected(EINVAL);
  plain::Tree& tree = fs.plain()->tree();
  const plain::ExclusiveLock exclusive = tree.exclusive();
  const InodePtr from = fs.inodes().get(parent);
  const InodePtr to = fs.inodes().get(new_parent);
  if (from == nullptr || to == nullptr) return tl::unexpected(ESTALE);
  if (to->plain == nullptr || to->plain->top != from->plain->top) return tl::unexpected(EXDEV);
  const auto old_place = fs.plain()->place(plain::Tree::path(*from->plain, name));
  if (!old_place) return tl::unexpected(old_place.error());
  const auto new_place = fs.plain()->place(plain::Tree::path(*to->plain, new_name));
  if (!new_place) return tl::unexpected(new_place.error());
  const bool displaces = new_place->attributes().has_value();
  const plain::Leaving leaving = fs.plain()->leaving(to->plain->top, *new_place);
  auto kept = keep_displaced(*fs.plain(), tree.find(*to->plain, new_name), *new_place);
  if (::renameat2(old_place->directory(), old_place->name(), new_place->directory(),
                  new_place->name(), flags) != 0)
    return tl::unexpected(errno);
  leaving.gone();
  to->plain->top->renamed();
  if (!displaces) to->plain->top->made();
  const plain::NodePtr node = tree.rename(from->plain, name, to->plain, new_name);
  if (node != nullptr) node->displaced = std::move(kept);
  detach(fs, node);
  return {};
}

}  // namespace

void plain_lookup(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name) {
  const auto found = find(fs, parent, name);
  if (!found) {
    fuse_reply_err(req, found.error());
    return;
  }
  reply_plain_entry(fs, req, found->inode, found->status);
}

void plain_mkdir(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) {
  make(fs, req, parent, name, mode, [&](const PlainPlace& place) {
    return ::mkdirat(place.at.directory(), place.at.name(), mode);
  });
}

// Regular files only: a queue or a device belongs to the machine, not to a cache.
void plain_mknod(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode,
                 dev_t) {
  if (!S_ISREG(mode)) return reply(req, Refusal::kNotPermitted);
  make(fs, req, parent, name, mode, [&](const PlainPlace& place) {
    auto file =
        fs.plain()->files().open(place.at, plain::Access::kWrite, place.directory->plain->top,
                                 O_CREAT | O_EXCL, mode & 0777);
    if (file) {
      file->finish();
      return 0;
    }
    errno = file.error();
    return -1;
  });
}

void plain_symlink(FileSystem& fs, fuse_req_t req, const char* target, fuse_ino_t parent,
                   const char* name) {
  make(fs, req, parent, name, std::nullopt, [&](const PlainPlace& place) {
    return ::symlinkat(target, place.at.directory(), place.at.name());
  });
}

void plain_unlink(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name) {
  reply_os(req, remove(fs, parent, name, 0));
}

void plain_rmdir(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name) {
  reply_os(req, remove(fs, parent, name, AT_REMOVEDIR));
}

void plain_rename(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name,
                  fuse_ino_t new_parent, const char* new_name, unsigned int flags) {
  reply_os(req, rename(fs, parent, name, new_parent, new_name, flags));
}

// A file has one name here: evicting it is removing that.
void plain_link(FileSystem&, fuse_req_t req, fuse_ino_t, fuse_ino_t, const char*) {
  reply(req, Refusal::kNotPermitted);
}

}  // namespace kvfs::mount
