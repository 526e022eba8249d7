#include "fs/mount/attributes.h"
#include "fs/mount/directory.h"
#include "fs/mount/file_system.h"
#include "fs/mount/names.h"
#include "fs/mount/ops.h"

namespace kvfs::mount {

void op_symlink(FileSystem& fs, fuse_req_t req, const char* target, fuse_ino_t parent,
                const char* name) {
  const InodePtr directory = fs.inodes().get(parent);
  if (directory == nullptr) return reply(req, Refusal::kStale);
  if (directory->kind() != InodeKind::kNamespace) return reply(req, Refusal::kNotPermitted);
  const auto key = key_from_file_name(target);
  if (!key) return reply(req, Refusal::kBadMessage);
  if (auto status = check_prefix_name(name); !status) return reply(req, status.error());
  if (auto status = directory->ns->add_name(name, *key, /*replace=*/false); !status)
    return reply(req, status.error());

  const InodePtr inode = fs.inodes().look_up(name_inode(directory->ns, name, *key));
  const auto attr = attributes(fs, *inode);
  if (!attr) {
    fs.inodes().forget(inode->nodeid, 1);
    return reply(req, attr.error());
  }
  const fuse_entry_param entry = entry_param(fs, *inode, *attr);
  if (fuse_reply_entry(req, &entry) != 0) fs.inodes().forget(inode->nodeid, 1);
}

}  // namespace kvfs::mount
