#include "fs/mount/attributes.h"
#include "fs/mount/directory.h"
#include "fs/mount/file_system.h"
#include "fs/mount/import.h"
#include "fs/mount/import_handle.h"
#include "fs/mount/names.h"
#include "fs/mount/ops.h"

namespace kvfs::mount {
namespace {

Result<InodePtr> begin_import(FileSystem& fs, const Inode& directory, const std::string& name,
                              mode_t mode) {
  const auto& ns = directory.ns;
  if (const auto key = key_from_file_name(name)) {
    if (ns->contains(*key)) return fail(Code::kExists, name + " is cached already");
  } else if (auto status = check_prefix_name(name); !status) {
    return pass(std::move(status));
  } else if (ns->name(name)) {
    return fail(Code::kExists, name + " is a name already");
  }
  auto import = Import::create(fs.store().spool_directory(), mode);
  if (!import) return pass(std::move(import));
  if (auto status = fs.imports().add(ns->id(), name, *import); !status)
    return pass(std::move(status));
  return fs.inodes().look_up(import_inode(ns, std::move(*import)));
}

}  // namespace

// A new file in a namespace directory is an import.
void op_create(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode,
               fuse_file_info* fi) {
  const InodePtr directory = fs.inodes().get(parent);
  if (directory == nullptr) return reply(req, Refusal::kStale);
  if (directory->kind() != InodeKind::kNamespace) return reply(req, Refusal::kNotPermitted);
  auto inode = begin_import(fs, *directory, name, mode);
  if (!inode) return reply(req, inode.error());
  const auto attr = attributes(fs, **inode);
  if (!attr) return reply(req, attr.error());
  const fuse_entry_param entry = entry_param(fs, **inode, *attr);
  fi->fh = fs.handles().add(std::make_shared<ImportHandle>(*inode, /*writes=*/true));
  if (fuse_reply_create(req, &entry, fi) == 0) return;
  if (const HandlePtr taken = fs.handles().take(fi->fh)) taken->released(fs);  // the caller is gone
  fs.inodes().forget((*inode)->nodeid, 1);
}

}  // namespace kvfs::mount
