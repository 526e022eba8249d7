#include <spdlog/spdlog.h>

#include "fs/mount/file_system.h"
#include "fs/mount/import.h"
#include "fs/mount/ops.h"

namespace kvfs::mount {
namespace {

void evict(fuse_req_t req, store::Namespace& ns, const Key& key) {
  const auto evicted = ns.evict(key);
  if (!evicted) return reply(req, evicted.error());
  // What is leased is gone from the listing at once and freed with its last lease.
  if (!ns.contains(key)) return reply_ok(req);
  spdlog::info(
      "rm of {}/{}: nothing was evicted: {} blocks are leased, {} pinned or named, {} part of "
      "longer prefixes",
      ns.name(), prefix_file_name(key), evicted->kept_leased, evicted->kept_pinned,
      evicted->kept_shared);
  reply(req, Error{Code::kBusy, {}});
}

}  // namespace

void op_unlink(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name) {
  const InodePtr directory = fs.inodes().get(parent);
  if (directory == nullptr) return reply(req, Refusal::kStale);
  if (directory->kind() != InodeKind::kNamespace) return reply(req, Refusal::kNotPermitted);
  store::Namespace& ns = *directory->ns;
  const auto import = fs.imports().take(ns.id(), name);
  if (import != nullptr && !import->settled()) return reply_ok(req);
  if (const auto key = key_from_file_name(name)) return evict(req, ns, *key);
  reply(req, ns.remove_name(name));
}

}  // namespace kvfs::mount
