// What directories of the mount contain.
#pragma once

#include <sys/stat.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/mount/inode.h"
#include "fs/plain/directory.h"

namespace kvfs::mount {

class FileSystem;

// A child that was found, with the store's answer where finding it asked for one.
struct Child {
  Inode inode;
  std::optional<store::PrefixInfo> info;  // kPrefix
};
// `caller` is a process: one that has just copied a file in sees it for a moment more (import.h).
std::optional<Child> find_child(FileSystem& fs, const Inode& directory, std::string_view name,
                                pid_t caller = 0);

struct ListedEntry {
  std::string name;
  Inode inode;
  std::uint64_t cookie;  // where to go on after this entry
};
// Up to `max` entries from `cookie` on. A namespace lists its longest prefixes, its names and what
// is being copied in. `.kvfs` is not listed, so that what walks a tree (tar, rsync, du) sees the
// cache and not the machinery; it opens by its name. Cookies stay valid while entries come and go.
std::vector<ListedEntry> list_directory(FileSystem& fs, const Inode& directory,
                                        std::uint64_t cookie, std::size_t max);

// Inodes of objects the store names.
Inode namespace_inode(std::shared_ptr<store::Namespace> ns);
Inode prefix_inode(std::shared_ptr<store::Namespace> ns, const store::PrefixInfo& info);
Inode name_inode(std::shared_ptr<store::Namespace> ns, std::string_view name, const Key& key);
Inode import_inode(std::shared_ptr<store::Namespace> ns, std::shared_ptr<Import> import);
Inode slab_inode(std::shared_ptr<store::Namespace> ns, std::uint32_t slab);
Inode plain_inode(plain::NodePtr node, const struct stat& status);
std::optional<Inode> plain_directory_inode(FileSystem& fs, const plain::DirectoryPtr& directory);
Inode index_inode(std::shared_ptr<store::Namespace> ns);  // of the current generation

}  // namespace kvfs::mount
