#include "fs/mount/plain_attributes.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>

#include "fs/mount/attributes.h"
#include "fs/mount/file_system.h"
#include "fs/mount/plain_open.h"
#include "fs/mount/plain_ops.h"
#include "fs/mount/plain_room.h"
#include "fs/mount/reply.h"
#include "fs/plain/plain_store.h"

namespace kvfs::mount {
namespace {

constexpr int kTimes =
    FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW;

plain::OsStatus done(int result) {
  if (result == 0) return {};
  return tl::unexpected(errno);
}

// A file or directory by its name, or by what has it open.
struct Subject {
  plain::SharedLock lock;
  plain::OpenFilePtr open;            // null: nobody has
  std::optional<plain::Place> place;  // none: its name is gone
};

plain::OsResult<Subject> subject_of(FileSystem& fs, const plain::Node& node) {
  plain::Tree& tree = fs.plain()->tree();
  Subject subject{tree.shared(), tree.open_file(node), {}};
  if (!node.gone) {
    auto place = fs.plain()->place(plain::Tree::path(node));
    if (!place) return tl::unexpected(place.error());
    subject.place = std::move(*place);
  } else if (subject.open == nullptr) {
    return tl::unexpected(to_errno(Refusal::kStale));
  }
  return subject;
}

plain::OsStatus set_mode(FileSystem& fs, const plain::Node& node, mode_t mode) {
  const auto subject = subject_of(fs, node);
  if (!subject) return tl::unexpected(subject.error());
  // A file that another user may write to is not to run as its owner.
  const mode_t bits = mode & (node.is_directory ? 07777 : 0777);
  if (!subject->place) return done(::fchmod(subject->open->fd(), bits));
  // Never what a symlink points to, which may be anywhere: EOPNOTSUPP.
  return done(
      ::fchmodat(subject->place->directory(), subject->place->name(), bits, AT_SYMLINK_NOFOLLOW));
}

plain::OsStatus set_owner(FileSystem& fs, const plain::Node& node, uid_t owner, gid_t group) {
  const auto subject = subject_of(fs, node);
  if (!subject) return tl::unexpected(subject.error());
  if (!subject->place) return done(::fchown(subject->open->fd(), owner, group));
  return done(::fchownat(subject->place->directory(), subject->place->name(), owner, group,
                         AT_SYMLINK_NOFOLLOW));
}

timespec time_to_set(const timespec& given, int to_set, int value, int now) {
  if ((to_set & now) != 0) return {0, UTIME_NOW};
  if ((to_set & value) != 0) return given;
  return {0, UTIME_OMIT};
}

plain::OsStatus set_times(FileSystem& fs, const plain::Node& node, const struct stat& wanted,
                          int to_set) {
  const timespec times[2] = {
      time_to_set(wanted.st_atim, to_set, FUSE_SET_ATTR_ATIME, FUSE_SET_ATTR_ATIME_NOW),
      time_to_set(wanted.st_mtim, to_set, FUSE_SET_ATTR_MTIME, FUSE_SET_ATTR_MTIME_NOW)};
  const auto subject = subject_of(fs, node);
  if (!subject) return tl::unexpected(subject.error());
  if (!subject->place) return done(::futimens(subject->open->fd(), times));
  const plain::Place& place = *subject->place;
  auto file = node.is_directory ? plain::OsResult<plain::Opened>(tl::unexpected(EISDIR))
                                : fs.plain()->files().open(place, plain::Access::kRead, node.top);
  // Directories and symlinks have no record that a time could make untrue.
  if (!file) return done(::utimensat(place.directory(), place.name(), times, AT_SYMLINK_NOFOLLOW));
  const int error = (*file)->set_times(times);
  return error == 0 ? plain::OsStatus() : tl::unexpected(error);
}

plain::OsStatus set_size(FileSystem& fs, const plain::Node& node, off_t size) {
  auto subject = subject_of(fs, node);
  if (!subject) return tl::unexpected(subject.error());
  if (!subject->place) return done(::ftruncate(subject->open->fd(), size));
  auto file = fs.plain()->files().open(*subject->place, plain::Access::kWrite, node.top);
  subject->lock.unlock();
  if (!file) return tl::unexpected(file.error());
  auto outcome = done(::ftruncate((*file)->fd(), size));
  file->finish();  // which may read all of it
  return outcome;
}

plain::OsStatus set(FileSystem& fs, const plain::Node& node, const struct stat& wanted,
                    int to_set) {
  const uid_t owner = (to_set & FUSE_SET_ATTR_UID) != 0 ? wanted.st_uid : static_cast<uid_t>(-1);
  const gid_t group = (to_set & FUSE_SET_ATTR_GID) != 0 ? wanted.st_gid : static_cast<gid_t>(-1);
  plain::OsStatus outcome;
  if ((to_set & FUSE_SET_ATTR_SIZE) != 0) outcome = set_size(fs, node, wanted.st_size);
  if (outcome && (to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) != 0)
    outcome = set_owner(fs, node, owner, group);
  if (outcome && (to_set & FUSE_SET_ATTR_MODE) != 0) outcome = set_mode(fs, node, wanted.st_mode);
  if (outcome && (to_set & kTimes) != 0) outcome = set_times(fs, node, wanted, to_set);
  return outcome;
}

// Or cannot be opened, which shows again.
bool is_believed(FileSystem& fs, const Inode& inode) {
  const auto opened = open_plain_for_reading(fs, inode);
  return !opened || (*opened)->trust() == plain::OpenFile::Trust::kWhole;
}

void reply_attributes(FileSystem& fs, fuse_req_t req, const Inode& inode) {
  const auto attr = plain_attributes(fs, inode);
  if (!attr) return reply(req, attr.error());
  fuse_reply_attr(req, &*attr, timeouts(fs, inode.kind()).attr);
}

}  // namespace

Result<struct stat> plain_attributes(FileSystem& fs, const Inode& inode) {
  const auto subject = subject_of(fs, *inode.plain);
  if (!subject) return fail(Code::kNotFound, {});
  if (!subject->place) {
    struct stat status {};
    if (::fstat(subject->open->fd(), &status) != 0) return fail(Code::kIo, {});
    return status;
  }
  const auto found = subject->place->attributes();
  if (found) return *found;
  return fail(found.error() == ENOENT ? Code::kNotFound : Code::kIo, {});
}

void plain_getattr(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, fuse_file_info*) {
  // fstat(2) comes without the descriptor: what is open has attributes after it is gone, too.
  const InodePtr inode = fs.inodes().get_opened(ino);
  if (inode == nullptr) return reply(req, Refusal::kStale);
  reply_attributes(fs, req, *inode);
}

void plain_setattr(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, struct stat* wanted, int to_set,
                   fuse_file_info*) {
  const InodePtr inode = fs.inodes().get_opened(ino);
  if (inode == nullptr) return reply(req, Refusal::kStale);
  std::uint64_t more = 0;
  if ((to_set & FUSE_SET_ATTR_SIZE) != 0) {
    const auto now = plain_attributes(fs, *inode);
    if (!now) return reply(req, now.error());
    if (wanted->st_size > now->st_size)
      more = static_cast<std::uint64_t>(wanted->st_size - now->st_size);
  }
  const auto apply = [&fs, inode, attr = *wanted, to_set](fuse_req_t later) {
    const auto outcome = set(fs, *inode->plain, attr, to_set);
    if (!outcome) return reply_os(later, outcome);
    reply_attributes(fs, later, *inode);
  };
  const auto apply_with_room = [&fs, inode, more, apply](fuse_req_t later) {
    if (more == 0) return apply(later);
    when_room(fs, later, inode->plain->top, more, apply);
  };
  // What is kept of the file is looked at before this makes it unfinished.
  if ((to_set & FUSE_SET_ATTR_SIZE) == 0 || wanted->st_size == 0 || is_believed(fs, *inode))
    return apply_with_room(req);
  fs.jobs().post([&fs, inode, apply_with_room, pending = fs.parked().park(req)] {
    compare_plain(fs, inode, pending, apply_with_room);
  });
}

void plain_readlink(FileSystem& fs, fuse_req_t req, fuse_ino_t ino) {
  const InodePtr inode = fs.inodes().get(ino);
  if (inode == nullptr) return reply(req, Refusal::kStale);
  std::array<char, PATH_MAX> target{};
  const auto subject = subject_of(fs, *inode->plain);
  const ssize_t length = subject && subject->place
                             ? ::readlinkat(subject->place->directory(), subject->place->name(),
                                            target.data(), target.size() - 1)
                             : -1;
  if (length < 0) {
    fuse_reply_err(req, subject ? errno : subject.error());
    return;
  }
  fuse_reply_readlink(req, target.data());
}

}  // namespace kvfs::mount
