#include <spdlog/spdlog.h>

#include "fs/mount/attributes.h"
#include "fs/mount/directory.h"
#include "fs/mount/file_system.h"
#include "fs/mount/ops.h"
#include "fs/plain/plain_store.h"

namespace kvfs::mount {

namespace {

// A directory that is made is a plain one; a namespace needs a geometry: it comes by the control
// file's ns_create.
plain::OsStatus make(FileSystem& fs, const std::string& name, mode_t mode, const fuse_ctx& caller) {
  if (!store::check_name(name)) return tl::unexpected(to_errno(Refusal::kBadMessage));
  const MutexLock lock(fs.root_names());
  if (fs.store().find_namespace(name) != nullptr) return tl::unexpected(to_errno(Refusal::kExists));
  return fs.plain()->make(name, mode, caller.uid, caller.gid);
}

}  // namespace

void op_mkdir(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) {
  if (parent != FUSE_ROOT_ID) return reply(req, Refusal::kNotPermitted);
  if (fs.plain() == nullptr) {
    spdlog::warn(
        "mkdir of {}: this mount has no place for plain directories: give it an nvme "
        "directory, or plain_dir",
        name);
    return reply(req, Refusal::kNotSupported);
  }
  if (const auto made = make(fs, name, mode, *fuse_req_ctx(req)); !made) return reply_os(req, made);
  auto child = find_child(fs, *fs.inodes().get(parent), name);
  if (!child) return reply(req, Refusal::kNotFound);
  const InodePtr inode = fs.inodes().look_up(std::move(child->inode));
  const auto attr = attributes(fs, *inode);
  if (!attr) {
    reply(req, attr.error());
  } else {
    const fuse_entry_param entry = entry_param(fs, *inode, *attr);
    if (fuse_reply_entry(req, &entry) == 0) return;
  }
  fs.inodes().forget(inode->nodeid, 1);
}

}  // namespace kvfs::mount
