#include "fs/mount/file_system.h"
#include "fs/mount/ops.h"
#include "fs/plain/plain_store.h"

namespace kvfs::mount {

void op_rmdir(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name) {
  if (parent != FUSE_ROOT_ID) return reply(req, Refusal::kNotPermitted);
  if (fs.plain() != nullptr && fs.plain()->find(name) != nullptr)
    return reply_os(req, fs.plain()->remove(name));
  const auto ns = fs.store().find_namespace(name);
  if (ns == nullptr) return reply(req, Refusal::kNotFound);
  if (!fs.imports().list(ns->id()).empty()) return reply(req, Refusal::kNotEmpty);
  const auto removed = fs.store().remove_namespace(name, store::RemoveIf::kEmpty);
  if (removed) return reply_ok(req);
  if (removed.error().code == Code::kExists) return reply(req, Refusal::kNotEmpty);
  reply(req, removed.error());
}

}  // namespace kvfs::mount
