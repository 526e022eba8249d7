// Inode: what a path of the mount means.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "fs/mount/fuse_api.h"
#include "fs/plain/plain_listener.h"
#include "fs/store/store.h"
#include "lib/format/key.h"

namespace kvfs::mount {

class Import;

enum class InodeKind : std::uint8_t {
  // the store
  kRoot,       // /
  kStoreMeta,  // /.kvfs
  kVersion,
  kConfig,
  kStoreStats,
  kMetrics,
  kStoreControl,
  // a namespace
  kNamespace,  // /<ns>
  kMeta,       // /<ns>/.kvfs
  kGeometry,
  kNamespaceStats,
  kIndex,
  kReserve,
  kControl,
  kSlabs,   // /<ns>/.kvfs/slabs
  kSlab,    // /<ns>/.kvfs/slabs/<id>
  kPrefix,  // /<ns>/<key>.safetensors
  kName,    // /<ns>/<name>, a symlink
  kImport,  // /<ns>/<name>, a file being copied in
  // a plain directory
  kPlainDirectory,  // /<directory> and what is below
  kPlainFile,       // a file or a symlink in it
};

constexpr bool is_plain(InodeKind kind) {
  return kind == InodeKind::kPlainDirectory || kind == InodeKind::kPlainFile;
}
// Node ids of plain inodes have this bit, so that operations are told apart by it (ops.cc).
inline constexpr fuse_ino_t kPlainNodes = fuse_ino_t{1} << 62;

constexpr bool is_directory(InodeKind kind) {
  return kind == InodeKind::kRoot || kind == InodeKind::kStoreMeta ||
         kind == InodeKind::kNamespace || kind == InodeKind::kMeta || kind == InodeKind::kSlabs ||
         kind == InodeKind::kPlainDirectory;
}

// What makes two lookups find the same inode. `key` is the prefix's key, a name's target, or holds
// in `lo` a slab's id, an index's generation, an import's or a plain node's serial number.
struct InodeId {
  InodeKind kind = InodeKind::kRoot;
  std::uint32_t namespace_id = 0;
  Key key;
  std::string name;  // kName only
  friend bool operator==(const InodeId&, const InodeId&) = default;
};

struct InodeIdHash {
  std::size_t operator()(const InodeId& id) const noexcept;
};

// Immutable: what can change is asked of the store each time.
struct Inode {
  fuse_ino_t nodeid = 0;  // never used twice
  InodeId id;
  std::uint64_t number = 0;              // st_ino: the same after a restart; 0: follows from id
  std::shared_ptr<store::Namespace> ns;  // null for the store's own
  std::uint64_t file_bytes = 0;          // kPrefix, kIndex
  std::uint32_t stored_at = 0;           // kPrefix
  std::shared_ptr<Import> import;        // kImport
  plain::NodePtr plain;                  // kPlainDirectory, kPlainFile

  [[nodiscard]] InodeKind kind() const { return id.kind; }
};
using InodePtr = std::shared_ptr<const Inode>;

// st_ino of what an id names. Slabs and indexes keep theirs over generations.
std::uint64_t inode_number(const InodeId& id);

}  // namespace kvfs::mount
