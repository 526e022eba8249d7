// Files of plain directories are opened and made.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "fs/mount/attributes.h"
#include "fs/mount/plain_entry.h"
#include "fs/mount/plain_handle.h"
#include "fs/mount/plain_open.h"
#include "fs/mount/plain_ops.h"
#include "fs/mount/plain_room.h"
#include "fs/plain/plain_store.h"

namespace kvfs::mount {

plain::OsResult<plain::Opened> open_plain_for_reading(FileSystem& fs, const Inode& inode) {
  plain::PlainStore& plain = *fs.plain();
  const plain::SharedLock shared = plain.tree().shared();
  plain::Node& node = *inode.plain;
  if (node.gone) {
    if (node.displaced == nullptr) return tl::unexpected(to_errno(Refusal::kStale));
    return plain.files().again(node.displaced->file());
  }
  const auto place = plain.place(plain::Tree::path(node));
  if (!place) return tl::unexpected(place.error());
  auto opened = plain.files().open(*place, plain::Access::kRead, node.top);
  if (opened) plain.tree().set_open(node, opened->file());
  return opened;
}

void compare_plain(FileSystem& fs, const InodePtr& inode, const PendingReply& pending,
                   const std::function<void(fuse_req_t)>& then) {
  if (pending.answered()) return;  // interrupted while others had their turn, or at the end
  bool recorded = false;
  std::uint64_t number = 0;
  {
    auto opened = open_plain_for_reading(fs, *inode);
    if (!opened) {
      pending.answer([&](fuse_req_t req) { fuse_reply_err(req, opened.error()); });
      return;
    }
    number = (*opened)->inode();
    recorded = plain::read_record((*opened)->fd()).has_value();
    const auto comparison = (*opened)->read_and_compare(fs.ending());
    if (comparison == plain::OpenFile::Comparison::kNoChecksum)
      fs.plain()->files().want_checksum(opened->file());
    if (comparison == plain::OpenFile::Comparison::kUnread) {
      pending.refuse(Error{Code::kIo, "the disk did not give the file"});
      return;
    }
    if (comparison != plain::OpenFile::Comparison::kOther) {
      pending.answer(then);
      return;
    }
  }
  fs.plain()->drop(inode->plain, number,
                   recorded ? plain::Loss::kCorrupt : plain::Loss::kIncomplete);
  pending.refuse(Refusal::kStale);  // the kernel looks it up again, and finds nothing
}

namespace {

// Counted whole pages: the least that a write adds.
constexpr std::uint64_t kPage = 4096;

bool wants_to_write(const fuse_file_info& fi) {
  return (fi.flags & O_ACCMODE) != O_RDONLY || (fi.flags & O_TRUNC) != 0;
}

// The handle for an open file; the kernel goes to it directly wherever it can.
HandlePtr make_handle(FileSystem& fs, fuse_req_t req, const InodePtr& inode, plain::Opened opened,
                      fuse_file_info& fi) {
  bool passthrough = false;
  if (fs.passthrough()) {
    const auto backing = fs.backings().acquire(req, inode->nodeid, opened->fd());
    passthrough = backing.has_value();
    if (passthrough) fi.backing_id = *backing;
  }
  // All changes come through the kernel. With a backing file it refuses the flag.
  fi.keep_cache = passthrough ? 0 : 1;
  fi.noflush = opened.writes() ? 0 : 1;
  if (opened.writes()) fs.plain()->evictor().watch_writers();
  auto handle = std::make_shared<PlainHandle>(inode, std::move(opened), passthrough);
  fi.fh = fs.handles().add(handle);
  return handle;
}

void give_back(FileSystem& fs, const fuse_file_info& fi) {
  if (const HandlePtr handle = fs.handles().take(fi.fh)) handle->released(fs);
}

void fail_open(fuse_req_t req, int error) { fuse_reply_err(req, error); }

void open_now(FileSystem& fs, fuse_req_t req, const InodePtr& inode, fuse_file_info fi,
              bool compared) {
  const bool writes = wants_to_write(fi);
  const bool truncates = (fi.flags & O_TRUNC) != 0;
  // What is kept of it is looked at before a writer's open makes it unfinished.
  auto opened = open_plain_for_reading(fs, *inode);
  if (!opened) return fail_open(req, opened.error());
  using Trust = plain::OpenFile::Trust;
  const Trust trust = truncates ? Trust::kWhole : (*opened)->trust();
  // A comparison that could not be recorded (a disk that is full, or not written to any more) holds
  // for this open.
  if (trust == Trust::kNot || (trust == Trust::kReadFirst && !compared)) {
    if (compared) return reply(req, Refusal::kStale);
    opened = tl::unexpected(ESTALE);  // closed first: what is open is not dropped
    fs.jobs().post([&fs, inode, fi, pending = fs.parked().park(req)] {
      compare_plain(fs, inode, pending,
                    [&](fuse_req_t later) { open_now(fs, later, inode, fi, /*compared=*/true); });
    });
    return;
  }
  if (writes) {
    if (const int error = opened->write(); error != 0) return fail_open(req, error);
  } else {
    inode->plain->top->hit();
    (*opened)->touch();
  }
  if (truncates) {
    if (::ftruncate((*opened)->fd(), 0) != 0) {
      const int error = errno;
      opened->finish();
      return fail_open(req, error);
    }
    (*opened)->count();
  }
  make_handle(fs, req, inode, std::move(*opened), fi);
  if (fuse_reply_open(req, &fi) != 0) give_back(fs, fi);  // the caller is gone
}

struct Created {
  InodePtr inode;
  plain::Opened file;
  struct stat status;
};

plain::OsResult<Created> create(FileSystem& fs, const fuse_ctx& caller, fuse_ino_t parent,
                                const std::string& name, mode_t mode, int flags) {
  auto place = plain_place(fs, parent, name.c_str());
  if (!place) return tl::unexpected(place.error());
  plain::PlainStore& plain = *fs.plain();
  const auto& top = place->directory->plain->top;
  auto opened =
      plain.files().open(place->at, plain::Access::kWrite, top, O_CREAT | O_EXCL, mode & 0777);
  struct stat status {};
  if (opened) {
    auto owned = own_plain(caller, *place, mode);
    if (!owned) return tl::unexpected(owned.error());
    status = *owned;
  } else if (opened.error() == EEXIST && (flags & O_EXCL) == 0) {  // somebody else just made it
    opened = plain.files().open(place->at, plain::Access::kWrite, top);
    if (!opened) return tl::unexpected(opened.error());
    if (::fstat((*opened)->fd(), &status) != 0) return tl::unexpected(errno);
  } else {
    return tl::unexpected(opened.error());
  }
  InodePtr inode = look_up_plain(fs, *place, name.c_str(), status);
  plain.tree().set_open(*inode->plain, opened->file());
  return Created{std::move(inode), std::move(*opened), status};
}

void create_now(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const std::string& name,
                mode_t mode, fuse_file_info fi) {
  auto created = create(fs, *fuse_req_ctx(req), parent, name, mode, fi.flags);
  if (!created) {
    fuse_reply_err(req, created.error());
    return;
  }
  const fuse_entry_param entry = entry_param(fs, *created->inode, created->status);
  make_handle(fs, req, created->inode, std::move(created->file), fi);
  if (fuse_reply_create(req, &entry, &fi) == 0) return;
  give_back(fs, fi);
  fs.inodes().forget(created->inode->nodeid, 1);
}

}  // namespace

void plain_open(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  const InodePtr inode = fs.inodes().get_opened(ino);  // its name may be gone by now
  if (inode == nullptr) return reply(req, Refusal::kStale);
  if (!wants_to_write(*fi)) return open_now(fs, req, inode, *fi, /*compared=*/false);
  // What is truncated makes room itself.
  const std::uint64_t more = (fi->flags & O_TRUNC) != 0 ? 0 : kPage;
  when_room(fs, req, inode->plain->top, more, [&fs, inode, info = *fi](fuse_req_t later) {
    open_now(fs, later, inode, info, /*compared=*/false);
  });
}

void plain_create(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode,
                  fuse_file_info* fi) {
  const InodePtr directory = fs.inodes().get(parent);
  if (directory == nullptr) return reply(req, Refusal::kStale);
  when_room(fs, req, directory->plain->top, kPage,
            [&fs, parent, text = std::string(name), mode, info = *fi](fuse_req_t later) {
              create_now(fs, later, parent, text, mode, info);
            });
}

}  // namespace kvfs::mount
