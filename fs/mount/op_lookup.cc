#include "fs/mount/attributes.h"
#include "fs/mount/directory.h"
#include "fs/mount/file_system.h"
#include "fs/mount/ops.h"

namespace kvfs::mount {

// A name that is not there is not remembered by the kernel either: it may be stored at any moment.
void op_lookup(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name) {
  const InodePtr directory = fs.inodes().get(parent);
  if (directory == nullptr) return reply(req, Refusal::kStale);
  auto child = find_child(fs, *directory, name, fuse_req_ctx(req)->pid);
  if (!child) return reply(req, Refusal::kNotFound);
  const InodePtr inode = fs.inodes().look_up(std::move(child->inode));
  const auto attr = child->info ? Result<struct stat>(prefix_attributes(*inode, *child->info))
                                : attributes(fs, *inode);
  if (!attr) {
    reply(req, attr.error());
  } else {
    const fuse_entry_param entry = entry_param(fs, *inode, *attr);
    if (fuse_reply_entry(req, &entry) == 0) return;
  }
  fs.inodes().forget(inode->nodeid, 1);  // the kernel did not get it
}

}  // namespace kvfs::mount
