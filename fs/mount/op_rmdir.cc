#include "fs/mount/file_system.h"
#include "fs/mount/ops.h"

namespace kvfs::mount {

void op_rmdir(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name) {
  if (parent != FUSE_ROOT_ID) return reply(req, Refusal::kNotPermitted);
  const auto ns = fs.store().find_namespace(name);
  if (ns == nullptr) return reply(req, Refusal::kNotFound);
  std::vector<store::NameEntry> names;
  ns->names(0, 1, names);
  if (ns->stats().blocks != 0 || !names.empty() || !fs.imports().list(ns->id()).empty()) {
    return reply(req, Refusal::kNotEmpty);
  }
  const auto removed = fs.store().remove_namespace(name, /*force=*/false);
  if (!removed) return reply(req, removed.error());
  reply_ok(req);
}

}  // namespace kvfs::mount
