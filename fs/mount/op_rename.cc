#include <linux/fs.h>

#include "fs/mount/file_system.h"
#include "fs/mount/import.h"
#include "fs/mount/names.h"
#include "fs/mount/ops.h"
#include "fs/plain/plain_store.h"

namespace kvfs::mount {
namespace {

bool is_plain_directory(FileSystem& fs, const char* name) {
  return fs.plain() != nullptr && fs.plain()->find(name) != nullptr;
}

// mv of a namespace or a plain directory.
void rename_directory(FileSystem& fs, fuse_req_t req, const char* from, const char* to) {
  if (auto status = store::check_name(to); !status) return reply(req, status.error());
  MutexLock lock(fs.root_names());
  const bool taken = fs.store().find_namespace(to) != nullptr || is_plain_directory(fs, to);
  if (taken) return reply(req, Refusal::kNotEmpty);
  if (is_plain_directory(fs, from)) return reply_os(req, fs.plain()->rename(from, to));
  reply(req, fs.store().rename_namespace(from, to));
}

bool taken(FileSystem& fs, store::Namespace& ns, const std::string& name) {
  if (const auto key = key_from_file_name(name)) return ns.contains(*key);
  return ns.name(name).has_value() || fs.imports().find(ns.id(), name) != nullptr;
}

// The last step of a copy that went to a temporary name: the name becomes the one that was wanted.
void rename_name(FileSystem& fs, fuse_req_t req, const Inode& directory, const std::string& from,
                 const std::string& to) {
  store::Namespace& ns = *directory.ns;
  const auto source = ns.name(from);
  if (!source) return reply(req, Refusal::kNotFound);
  const auto wanted = key_from_file_name(to);
  if (!wanted) {
    const Status renamed = ns.rename_name(from, to);
    if (renamed) fs.imports().rename(ns.id(), from, to);  // its writer goes on to see the file
    return reply(req, renamed);
  }
  // The prefix has that name by itself; another key's name cannot be had.
  if (*wanted != *source) return reply(req, Refusal::kBadMessage);
  const Status removed = ns.remove_name(from);
  if (removed) fs.imports().take(ns.id(), from);
  reply(req, removed);  // the symlink that the kernel moved there is looked up again: it is a name
}

void rename_in_namespace(FileSystem& fs, fuse_req_t req, const Inode& directory,
                         const std::string& from, const std::string& to, unsigned int flags) {
  if (from == kMetaName || to == kMetaName) return reply(req, Refusal::kNotPermitted);
  const Status named = key_from_file_name(to) ? Status() : check_prefix_name(to);
  if (!named) return reply(req, named.error());
  if ((flags & RENAME_NOREPLACE) != 0 && taken(fs, *directory.ns, to))
    return reply(req, Refusal::kExists);
  const auto import = fs.imports().find(directory.ns->id(), from);
  if (import != nullptr && !import->settled()) {
    fs.imports().rename(directory.ns->id(), from, to);
    return reply_ok(req);
  }
  if (key_from_file_name(from)) return reply(req, Refusal::kNotPermitted);  // its name is its key
  rename_name(fs, req, directory, from, to);
}

}  // namespace

void op_rename(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name,
               fuse_ino_t new_parent, const char* new_name, unsigned int flags) {
  const InodePtr directory = fs.inodes().get(parent);
  if (directory == nullptr) return reply(req, Refusal::kStale);
  if ((flags & ~unsigned{RENAME_NOREPLACE}) != 0) return reply(req, Refusal::kBadMessage);
  if (parent != new_parent) return reply(req, Refusal::kCrossNamespace);
  switch (directory->kind()) {
    case InodeKind::kRoot:
      return rename_directory(fs, req, name, new_name);
    case InodeKind::kNamespace:
      return rename_in_namespace(fs, req, *directory, name, new_name, flags);
    default:
      return reply(req, Refusal::kNotPermitted);
  }
}

}  // namespace kvfs::mount
