// list_directory(): cookies, and the parts of each directory in order.
#include <algorithm>

#include "fs/mount/directory.h"
#include "fs/mount/file_system.h"
#include "fs/mount/import.h"
#include "fs/mount/static_entries.h"
#include "fs/plain/plain_store.h"

namespace kvfs::mount {
namespace {

// A cookie is a part of the directory and a place in it. readdir(3) offsets are signed.
enum class Part : std::uint64_t { kDots = 0, kMain = 1, kImports = 2, kPrefixes = 3, kPlain = 4 };
constexpr unsigned kPartShift = 60;
constexpr std::uint64_t cookie_of(Part part, std::uint64_t place) {
  return (static_cast<std::uint64_t>(part) << kPartShift) | place;
}
constexpr Part part_of(std::uint64_t cookie) { return static_cast<Part>(cookie >> kPartShift); }
constexpr std::uint64_t place_of(std::uint64_t cookie) {
  return cookie & ((1ULL << kPartShift) - 1);
}

struct Filling {
  FileSystem& fs;
  const Inode& directory;
  std::uint64_t cookie;
  std::size_t max;
  std::vector<ListedEntry> out;

  [[nodiscard]] std::size_t room() const { return max - out.size(); }
  void add(std::string name, Inode inode, Part part, std::uint64_t next_place) {
    cookie = cookie_of(part, next_place);
    out.push_back({std::move(name), std::move(inode), cookie});
  }
  void go_to(Part part) { cookie = cookie_of(part, 0); }
};

void add_dots(Filling& filling) {
  Inode self;
  self.id = filling.directory.id;
  self.ns = filling.directory.ns;
  if (place_of(filling.cookie) == 0 && filling.room() > 0) filling.add(".", self, Part::kDots, 1);
  if (filling.room() == 0) return;
  filling.add("..", Inode(), Part::kDots, 2);
  filling.go_to(Part::kMain);
  filling.out.back().cookie = filling.cookie;
}

void add_namespaces(Filling& filling) {
  auto all = filling.fs.store().namespaces();
  std::ranges::sort(all, {}, [](const auto& ns) { return ns->id(); });
  const std::uint64_t from = place_of(filling.cookie);
  for (auto& ns : all) {
    if (std::uint64_t{ns->id()} + 1 <= from || filling.room() == 0) continue;
    std::string name = ns->name();
    const std::uint64_t next = std::uint64_t{ns->id()} + 1;
    filling.add(std::move(name), namespace_inode(std::move(ns)), Part::kMain, next);
  }
  if (filling.room() > 0) filling.go_to(Part::kPlain);
}

void add_plain_directories(Filling& filling) {
  if (filling.fs.plain() == nullptr) return;
  auto all = filling.fs.plain()->directories();
  std::ranges::sort(all, {}, [](const auto& directory) { return directory->id(); });
  const std::uint64_t from = place_of(filling.cookie);
  for (const auto& directory : all) {
    if (directory->id() + 1 <= from || filling.room() == 0) continue;
    if (auto inode = plain_directory_inode(filling.fs, directory))
      filling.add(directory->name(), std::move(*inode), Part::kPlain, directory->id() + 1);
  }
}

void add_root_parts(Filling& filling) {
  if (part_of(filling.cookie) == Part::kMain) add_namespaces(filling);
  if (part_of(filling.cookie) == Part::kPlain && filling.room() > 0) add_plain_directories(filling);
}

void add_static(Filling& filling) {
  const auto entries = static_entries(filling.directory.kind());
  for (std::uint64_t place = place_of(filling.cookie); place < entries.size() && filling.room() > 0;
       ++place) {
    const StaticEntry& entry = entries[place];
    auto child = find_child(filling.fs, filling.directory, entry.name);
    if (child)
      filling.add(std::string(entry.name), std::move(child->inode), Part::kMain, place + 1);
  }
}

void add_slabs(Filling& filling) {
  const std::uint64_t from = place_of(filling.cookie);
  for (const SlabInfo& slab : filling.directory.ns->slabs()) {
    const std::uint64_t next = std::uint64_t{slab.id} + 1;
    if (next <= from || filling.room() == 0) continue;
    filling.add(std::to_string(slab.id), slab_inode(filling.directory.ns, slab.id), Part::kMain,
                next);
  }
}

void add_names(Filling& filling) {
  std::vector<store::NameEntry> names;
  filling.directory.ns->names(place_of(filling.cookie), filling.room(), names);
  for (auto& entry : names) {
    Inode inode = name_inode(filling.directory.ns, entry.name, entry.key);
    filling.add(std::move(entry.name), std::move(inode), Part::kMain, entry.cookie);
  }
  if (filling.room() > 0) filling.go_to(Part::kImports);
}

void add_imports(Filling& filling) {
  auto imports = filling.fs.imports().list(filling.directory.ns->id());
  std::ranges::sort(imports, {}, [](const auto& entry) { return entry.second->serial(); });
  const std::uint64_t from = place_of(filling.cookie);
  for (auto& [name, import] : imports) {
    const std::uint64_t serial = import->serial();
    if (serial <= from || filling.room() == 0) continue;
    filling.add(std::move(name), import_inode(filling.directory.ns, std::move(import)),
                Part::kImports, serial);
  }
  if (filling.room() > 0) filling.go_to(Part::kPrefixes);
}

void add_prefixes(Filling& filling) {
  std::vector<store::PrefixEntry> prefixes;
  filling.directory.ns->list(place_of(filling.cookie), filling.room(), prefixes);
  for (const auto& entry : prefixes) {
    Inode inode;
    inode.id = {InodeKind::kPrefix, filling.directory.id.namespace_id, entry.key, {}};
    inode.ns = filling.directory.ns;
    filling.add(prefix_file_name(entry.key), std::move(inode), Part::kPrefixes, entry.cookie);
  }
}

void add_namespace_parts(Filling& filling) {
  if (part_of(filling.cookie) == Part::kMain) add_names(filling);
  if (part_of(filling.cookie) == Part::kImports && filling.room() > 0) add_imports(filling);
  if (part_of(filling.cookie) == Part::kPrefixes && filling.room() > 0) add_prefixes(filling);
}

}  // namespace

std::vector<ListedEntry> list_directory(FileSystem& fs, const Inode& directory,
                                        std::uint64_t cookie, std::size_t max) {
  Filling filling{fs, directory, cookie, max, {}};
  if (part_of(cookie) == Part::kDots) add_dots(filling);
  if (filling.room() == 0 || part_of(filling.cookie) == Part::kDots) return std::move(filling.out);
  switch (directory.kind()) {
    case InodeKind::kRoot:
      add_root_parts(filling);
      break;
    case InodeKind::kNamespace:
      add_namespace_parts(filling);
      break;
    case InodeKind::kSlabs:
      add_slabs(filling);
      break;
    default:
      add_static(filling);
      break;
  }
  return std::move(filling.out);
}

}  // namespace kvfs::mount
