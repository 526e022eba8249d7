#include "fs/mount/directory.h"

#include <charconv>
#include <span>

#include "fs/mount/file_system.h"
#include "fs/mount/import.h"
#include "fs/mount/names.h"
#include "fs/mount/static_entries.h"
#include "fs/plain/plain_store.h"

namespace kvfs::mount {
namespace {

Inode below(const Inode& directory, InodeKind kind) {
  Inode inode;
  inode.id = {kind, directory.id.namespace_id, {}, {}};
  inode.ns = directory.ns;
  return inode;
}

std::optional<Child> find_static(const Inode& directory, std::string_view name) {
  for (const StaticEntry& entry : static_entries(directory.kind())) {
    if (entry.name != name) continue;
    if (entry.kind == InodeKind::kIndex) return Child{index_inode(directory.ns), {}};
    return Child{below(directory, entry.kind), {}};
  }
  return std::nullopt;
}

std::optional<Inode> find_plain_directory(FileSystem& fs, std::string_view name) {
  const auto directory = fs.plain() == nullptr ? nullptr : fs.plain()->find(name);
  return directory == nullptr ? std::nullopt : plain_directory_inode(fs, directory);
}

std::optional<Child> find_namespace(FileSystem& fs, const Inode& root, std::string_view name) {
  if (name == kMetaName) return Child{below(root, InodeKind::kStoreMeta), {}};
  if (auto ns = fs.store().find_namespace(name)) return Child{namespace_inode(std::move(ns)), {}};
  if (auto inode = find_plain_directory(fs, name)) return Child{std::move(*inode), {}};
  return std::nullopt;
}

std::optional<Child> find_prefix(FileSystem& fs, const Inode& directory, std::string_view name,
                                 pid_t caller) {
  if (name == kMetaName) return Child{below(directory, InodeKind::kMeta), {}};
  const auto& ns = directory.ns;
  if (const auto key = key_from_file_name(name)) {
    if (auto info = ns->find(*key)) {
      Inode inode = prefix_inode(ns, *info);
      return Child{std::move(inode), std::move(info)};
    }
  }
  auto import = fs.imports().find(ns->id(), std::string(name));
  if (import != nullptr && import->seen_as_file(caller))
    return Child{import_inode(ns, std::move(import)), {}};
  if (const auto target = ns->name(name)) return Child{name_inode(ns, name, *target), {}};
  return std::nullopt;
}

std::optional<Child> find_slab(const Inode& directory, std::string_view name) {
  std::uint32_t id = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), id);
  if (error != std::errc() || end != name.data() + name.size() || std::to_string(id) != name)
    return std::nullopt;
  for (const SlabInfo& slab : directory.ns->slabs()) {
    if (slab.id == id) return Child{slab_inode(directory.ns, id), {}};
  }
  return std::nullopt;
}

}  // namespace

std::optional<Child> find_child(FileSystem& fs, const Inode& directory, std::string_view name,
                                pid_t caller) {
  switch (directory.kind()) {
    case InodeKind::kRoot:
      return find_namespace(fs, directory, name);
    case InodeKind::kNamespace:
      return find_prefix(fs, directory, name, caller);
    case InodeKind::kSlabs:
      return find_slab(directory, name);
    default:
      return find_static(directory, name);
  }
}

Inode namespace_inode(std::shared_ptr<store::Namespace> ns) {
  Inode inode;
  inode.id = {InodeKind::kNamespace, ns->id(), {}, {}};
  inode.ns = std::move(ns);
  return inode;
}

Inode prefix_inode(std::shared_ptr<store::Namespace> ns, const store::PrefixInfo& info) {
  Inode inode;
  inode.id = {InodeKind::kPrefix, ns->id(), info.key, {}};
  inode.ns = std::move(ns);
  inode.file_bytes = info.file_bytes;
  inode.stored_at = info.stored_at;
  return inode;
}

Inode name_inode(std::shared_ptr<store::Namespace> ns, std::string_view name, const Key& key) {
  Inode inode;
  inode.id = {InodeKind::kName, ns->id(), key, std::string(name)};
  inode.ns = std::move(ns);
  return inode;
}

Inode import_inode(std::shared_ptr<store::Namespace> ns, std::shared_ptr<Import> import) {
  Inode inode;
  inode.id = {InodeKind::kImport, ns->id(), {import->serial(), 0}, {}};
  inode.ns = std::move(ns);
  inode.import = std::move(import);
  return inode;
}

Inode slab_inode(std::shared_ptr<store::Namespace> ns, std::uint32_t slab) {
  Inode inode;
  inode.id = {InodeKind::kSlab, ns->id(), {slab, 0}, {}};
  inode.ns = std::move(ns);
  return inode;
}

Inode plain_inode(plain::NodePtr node, const struct stat& status) {
  Inode inode;
  inode.id = {node->is_directory ? InodeKind::kPlainDirectory : InodeKind::kPlainFile,
              0,
              {node->serial, 0},
              {}};
  inode.number = status.st_ino;
  inode.plain = std::move(node);
  return inode;
}

std::optional<Inode> plain_directory_inode(FileSystem& fs, const plain::DirectoryPtr& directory) {
  const auto shared = fs.plain()->tree().shared();
  const auto found = plain::Place(fs.plain()->root(), directory->name()).attributes();
  if (!found) return std::nullopt;
  return plain_inode(fs.plain()->tree().top(directory), *found);
}

Inode index_inode(std::shared_ptr<store::Namespace> ns) {
  const auto file = ns->index_file();
  Inode inode;
  inode.id = {InodeKind::kIndex, ns->id(), {file.generation, 0}, {}};
  inode.ns = std::move(ns);
  inode.file_bytes = file.bytes;
  return inode;
}

}  // namespace kvfs::mount
