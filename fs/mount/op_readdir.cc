#include "fs/mount/attributes.h"
#include "fs/mount/directory.h"
#include "fs/mount/file_system.h"
#include "fs/mount/ops.h"

namespace kvfs::mount {
namespace {

// What an entry takes at least in a reply: its fixed part and a short name.
constexpr std::size_t kSmallestEntry = 32;
constexpr std::size_t kSmallestPlusEntry = 168;

struct stat entry_stat(const Inode& inode) {
  struct stat attr {};
  attr.st_ino = inode.number != 0 ? inode.number : inode_number(inode.id);
  attr.st_mode = is_directory(inode.kind())         ? S_IFDIR
                 : inode.kind() == InodeKind::kName ? S_IFLNK
                                                    : S_IFREG;
  return attr;
}

bool is_dot(const std::string& name) { return name == "." || name == ".."; }

// Attributes, with the lookup that readdirplus counts; nothing when the entry has gone.
std::optional<fuse_entry_param> look_up_entry(FileSystem& fs, const ListedEntry& listed) {
  if (is_dot(listed.name)) {
    fuse_entry_param entry{};
    entry.attr = entry_stat(listed.inode);
    return entry;
  }
  Inode wanted = listed.inode;
  std::optional<store::PrefixInfo> info;
  if (wanted.kind() == InodeKind::kPrefix) {
    info = wanted.ns->find(wanted.id.key);
    if (!info) return std::nullopt;
    wanted = prefix_inode(wanted.ns, *info);
  }
  const InodePtr inode = fs.inodes().look_up(std::move(wanted));
  const auto attr =
      info ? Result<struct stat>(prefix_attributes(*inode, *info)) : attributes(fs, *inode);
  if (attr) return entry_param(fs, *inode, *attr);
  fs.inodes().forget(inode->nodeid, 1);
  return std::nullopt;
}

// Fills `out` entry by entry: `add` returns the bytes it took, or nothing when there was no room.
// Goes on where a batch of the listing was used up without filling anything: an empty reply means
// the end.
template <typename Add>
std::size_t fill(FileSystem& fs, const Inode& directory, std::uint64_t cookie, std::size_t batch,
                 Add add) {
  std::size_t used = 0;
  while (used == 0) {
    const auto listing = list_directory(fs, directory, cookie, batch);
    if (listing.empty()) break;
    for (const ListedEntry& listed : listing) {
      const std::optional<std::size_t> added = add(listed, used);
      if (!added) return used;
      used += *added;
    }
    cookie = listing.back().cookie;
  }
  return used;
}

}  // namespace

void op_readdir(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset,
                fuse_file_info*) {
  const InodePtr directory = fs.inodes().get(ino);
  if (directory == nullptr) return reply(req, Refusal::kStale);
  std::vector<char> out(size);
  const auto add = [&](const ListedEntry& listed, std::size_t used) -> std::optional<std::size_t> {
    const struct stat attr = entry_stat(listed.inode);
    const std::size_t added =
        fuse_add_direntry(req, out.data() + used, size - used, listed.name.c_str(), &attr,
                          static_cast<off_t>(listed.cookie));
    if (added > size - used) return std::nullopt;
    return added;
  };
  const std::size_t used =
      fill(fs, *directory, static_cast<std::uint64_t>(offset), size / kSmallestEntry + 1, add);
  fuse_reply_buf(req, out.data(), used);
}

void op_readdirplus(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset,
                    fuse_file_info*) {
  const InodePtr directory = fs.inodes().get(ino);
  if (directory == nullptr) return reply(req, Refusal::kStale);
  std::vector<char> out(size);
  const auto add = [&](const ListedEntry& listed, std::size_t used) -> std::optional<std::size_t> {
    const auto entry = look_up_entry(fs, listed);
    if (!entry) return 0;
    const std::size_t added =
        fuse_add_direntry_plus(req, out.data() + used, size - used, listed.name.c_str(), &*entry,
                               static_cast<off_t>(listed.cookie));
    if (added <= size - used) return added;
    if (entry->ino != 0) fs.inodes().forget(entry->ino, 1);
    return std::nullopt;
  };
  const std::size_t used =
      fill(fs, *directory, static_cast<std::uint64_t>(offset), size / kSmallestPlusEntry + 1, add);
  fuse_reply_buf(req, out.data(), used);
}

}  // namespace kvfs::mount
