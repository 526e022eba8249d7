#include "fs/mount/attributes.h"
#include "fs/mount/file_system.h"
#include "fs/mount/import.h"
#include "fs/mount/ops.h"

namespace kvfs::mount {
namespace {

using Outcome = tl::expected<void, int>;  // the errno to answer with

Outcome refuse(Refusal refusal) { return tl::unexpected(to_errno(refusal)); }
Outcome outcome(const Status& status) {
  if (status) return {};
  return tl::unexpected(to_errno(status.error().code));
}

constexpr int kTimes =
    FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW;

Outcome set_namespace(FileSystem& fs, const Inode& inode, const struct stat& wanted, int to_set) {
  if ((to_set & FUSE_SET_ATTR_SIZE) != 0) return refuse(Refusal::kIsDirectory);
  store::Ownership owner = inode.ns->ownership();
  if ((to_set & FUSE_SET_ATTR_MODE) != 0) owner.mode = wanted.st_mode & 0777;
  if ((to_set & FUSE_SET_ATTR_UID) != 0) owner.uid = wanted.st_uid;
  if ((to_set & FUSE_SET_ATTR_GID) != 0) owner.gid = wanted.st_gid;
  // Times of the directory are its creation's: copying tools may set them, to no effect.
  if ((to_set & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) == 0) return {};
  const Status status = inode.ns->set_ownership(owner);
  if (status) fs.ownership_changed(inode.id.namespace_id);
  return outcome(status);
}

// Owner and mode of a prefix are its directory's. A change that changes nothing is accepted, and so
// is a mode that only adds bits (a copy's 0644), because tools that copy set them; one that would
// take rights away is refused, because it would not.
Outcome set_prefix(FileSystem& fs, const Inode& inode, const struct stat& wanted, int to_set) {
  if ((to_set & FUSE_SET_ATTR_SIZE) != 0) return refuse(Refusal::kNotPermitted);
  const store::Ownership owner = inode.ns->ownership();
  const mode_t mode = mode_below(InodeKind::kPrefix, owner.mode) & 07777;
  if ((to_set & FUSE_SET_ATTR_MODE) != 0 && (wanted.st_mode & mode) != mode)
    return refuse(Refusal::kNotPermitted);
  if ((to_set & FUSE_SET_ATTR_UID) != 0 && wanted.st_uid != owner.uid)
    return refuse(Refusal::kNotPermitted);
  if ((to_set & FUSE_SET_ATTR_GID) != 0 && wanted.st_gid != owner.gid)
    return refuse(Refusal::kNotPermitted);
  if ((to_set & kTimes) == 0) return {};
  const Status touched = inode.ns->touch(inode.id.key);
  if (touched && inode.kind() == InodeKind::kName)
    fs.attributes_changed(inode.id.namespace_id, inode.id.key);
  return outcome(touched);
}

Outcome set_import(const Inode& inode, const struct stat& wanted, int to_set) {
  Import& import = *inode.import;
  if ((to_set & FUSE_SET_ATTR_SIZE) != 0) {
    if (auto status = import.truncate(static_cast<std::uint64_t>(wanted.st_size)); !status)
      return outcome(status);
  }
  if ((to_set & FUSE_SET_ATTR_MODE) != 0) import.set_mode(wanted.st_mode);
  const store::Ownership owner = inode.ns->ownership();
  if ((to_set & FUSE_SET_ATTR_UID) != 0 && wanted.st_uid != owner.uid)
    return refuse(Refusal::kNotPermitted);
  if ((to_set & FUSE_SET_ATTR_GID) != 0 && wanted.st_gid != owner.gid)
    return refuse(Refusal::kNotPermitted);
  if ((to_set & FUSE_SET_ATTR_MTIME_NOW) != 0) {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    import.set_modified(now);
  } else if ((to_set & FUSE_SET_ATTR_MTIME) != 0) {
    import.set_modified(wanted.st_mtim);
  }
  return {};
}

Outcome set(FileSystem& fs, const Inode& inode, const struct stat& wanted, int to_set) {
  switch (inode.kind()) {
    case InodeKind::kNamespace:
      return set_namespace(fs, inode, wanted, to_set);
    case InodeKind::kPrefix:
    case InodeKind::kName:
      return set_prefix(fs, inode, wanted, to_set);
    case InodeKind::kImport:
      return set_import(inode, wanted, to_set);
    // Kernels that do not pass O_TRUNC to open truncate first.
    case InodeKind::kControl:
    case InodeKind::kStoreControl:
    case InodeKind::kReserve:
      if ((to_set & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) == 0) return {};
      return refuse(Refusal::kNotPermitted);
    default:
      return refuse(Refusal::kNotPermitted);
  }
}

}  // namespace

void op_setattr(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, struct stat* wanted, int to_set,
                fuse_file_info*) {
  const InodePtr inode = fs.inodes().get(ino);
  if (inode == nullptr) return reply(req, Refusal::kStale);
  if (auto done = set(fs, *inode, *wanted, to_set); !done) {
    fuse_reply_err(req, done.error());
    return;
  }
  const auto attr = attributes(fs, *inode);
  if (!attr) return reply(req, attr.error());
  fuse_reply_attr(req, &*attr, timeouts(fs, inode->kind()).attr);
}

}  // namespace kvfs::mount
