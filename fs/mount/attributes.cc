#include "fs/mount/attributes.h"

#include "fs/mount/control_handle.h"
#include "fs/mount/file_system.h"
#include "fs/mount/import.h"
#include "fs/mount/plain_attributes.h"
#include "fs/mount/snapshots.h"

namespace kvfs::mount {
namespace {

constexpr mode_t kReadBits = 0444;
constexpr mode_t kWriteBits = 0222;

void set_times(struct stat& attr, std::time_t modified, std::time_t accessed) {
  attr.st_mtim = {modified, 0};
  attr.st_ctim = {modified, 0};
  attr.st_atim = {accessed, 0};
}

void set_size(struct stat& attr, std::uint64_t bytes, std::uint64_t stored) {
  attr.st_size = static_cast<off_t>(bytes);
  attr.st_blocks = static_cast<blkcnt_t>((stored + 511) / 512);
}

struct stat common(const Inode& inode) {
  struct stat attr {};
  attr.st_ino = inode.number;
  attr.st_nlink = is_directory(inode.kind()) ? 2 : 1;
  attr.st_blksize = 1 << 20;
  return attr;
}

struct stat of_store(FileSystem& fs, const Inode& inode) {
  struct stat attr = common(inode);
  attr.st_uid = fs.owner().uid;
  attr.st_gid = fs.owner().gid;
  set_times(attr, fs.started_at(), fs.started_at());
  switch (inode.kind()) {
    case InodeKind::kStoreControl:
      attr.st_mode = S_IFREG | 0600;
      set_size(attr, kMaxControlRequest, 0);
      return attr;
    case InodeKind::kRoot:
    case InodeKind::kStoreMeta:
      attr.st_mode = S_IFDIR | 0755;
      break;
    default:
      attr.st_mode = S_IFREG | 0444;
      break;
  }
  set_size(attr, static_snapshot_bytes(fs, inode), 0);
  return attr;
}

struct stat of_namespace(const Inode& inode) {
  const store::Ownership owner = inode.ns->ownership();
  struct stat attr = common(inode);
  attr.st_uid = owner.uid;
  attr.st_gid = owner.gid;
  attr.st_mode = mode_below(inode.kind(), owner.mode);
  const std::time_t created = inode.ns->created_at();
  set_times(attr, created, created);
  return attr;
}

struct stat of_slab(const Inode& inode) {
  struct stat attr = of_namespace(inode);
  for (const SlabInfo& slab : inode.ns->slabs()) {
    if (slab.id != inode.id.key.lo) continue;
    set_size(attr, slab.id >= kFirstGpuSlab ? sizeof(gpu::SharedHandle) : slab.bytes, 0);
  }
  return attr;
}

struct stat of_import(const Inode& inode) {
  struct stat attr = of_namespace(inode);
  const Import::Facts facts = inode.import->facts();
  attr.st_mode = S_IFREG | facts.mode;
  set_size(attr, facts.bytes, facts.bytes);
  attr.st_mtim = facts.modified;
  attr.st_ctim = facts.modified;
  attr.st_atim = facts.modified;
  return attr;
}

}  // namespace

mode_t mode_below(InodeKind kind, mode_t directory) {
  const mode_t read = directory & kReadBits;
  const mode_t write = directory & kWriteBits;
  switch (kind) {
    case InodeKind::kNamespace:
      return S_IFDIR | directory;
    case InodeKind::kMeta:
    case InodeKind::kSlabs:
      return S_IFDIR | (directory & ~kWriteBits);
    case InodeKind::kSlab:
      return S_IFREG | read | write;
    // Talking to the daemon takes both directions; it changes things, so it takes the write bit.
    case InodeKind::kReserve:
    case InodeKind::kControl:
      return S_IFREG | write | (write << 1);
    case InodeKind::kName:
      return S_IFLNK | 0777;
    default:
      return S_IFREG | read;
  }
}

struct stat prefix_attributes(const Inode& inode, const store::PrefixInfo& info) {
  struct stat attr = of_namespace(inode);
  set_size(attr, info.file_bytes, info.own_bytes);
  set_times(attr, info.stored_at, info.last_hit);
  return attr;
}

Result<struct stat> attributes(FileSystem& fs, const Inode& inode) {
  switch (inode.kind()) {
    case InodeKind::kNamespace:
    case InodeKind::kMeta:
    case InodeKind::kSlabs:
    case InodeKind::kReserve:
    case InodeKind::kNamespaceStats:
      return of_namespace(inode);
    // Only within a file's size does the kernel let several write at once.
    case InodeKind::kControl: {
      struct stat attr = of_namespace(inode);
      set_size(attr, kMaxControlRequest, 0);
      return attr;
    }
    case InodeKind::kGeometry: {
      struct stat attr = of_namespace(inode);
      set_size(attr, static_snapshot_bytes(fs, inode), 0);
      return attr;
    }
    case InodeKind::kIndex: {
      struct stat attr = of_namespace(inode);
      set_size(attr, inode.file_bytes, 0);
      return attr;
    }
    case InodeKind::kSlab:
      return of_slab(inode);
    case InodeKind::kName: {
      struct stat attr = of_namespace(inode);
      set_size(attr, prefix_file_name(inode.id.key).size(), 0);
      return attr;
    }
    case InodeKind::kImport:
      return of_import(inode);
    case InodeKind::kPrefix: {
      if (const auto info = inode.ns->find(inode.id.key)) return prefix_attributes(inode, *info);
      // Evicted while somebody holds it open: like an unlinked file.
      struct stat attr = of_namespace(inode);
      set_size(attr, inode.file_bytes, 0);
      set_times(attr, inode.stored_at, inode.stored_at);
      attr.st_nlink = 0;
      return attr;
    }
    case InodeKind::kPlainDirectory:
    case InodeKind::kPlainFile:
      return plain_attributes(fs, inode);
    default:
      return of_store(fs, inode);
  }
}

Timeouts timeouts(const FileSystem& fs, InodeKind kind) {
  const double entry = static_cast<double>(fs.config().entry_timeout.count()) / 1e3;
  const double attr = static_cast<double>(fs.config().attr_timeout.count()) / 1e3;
  switch (kind) {
    // A name may come to mean another prefix, an import a name; an index has a successor.
    case InodeKind::kName:
    case InodeKind::kImport:
    case InodeKind::kIndex:
      return {0, 0};
    default:
      return {entry, attr};
  }
}

fuse_entry_param entry_param(const FileSystem& fs, const Inode& inode, const struct stat& attr) {
  fuse_entry_param entry{};
  entry.ino = inode.nodeid;
  entry.attr = attr;
  const Timeouts keep = timeouts(fs, inode.kind());
  entry.entry_timeout = keep.entry;
  entry.attr_timeout = keep.attr;
  return entry;
}

}  // namespace kvfs::mount
