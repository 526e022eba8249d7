#include "fs/mount/inode.h"

#include <cstring>
#include <vector>

#include "lib/format/checksum.h"

namespace kvfs::mount {
namespace {

std::uint64_t digest(InodeKind kind, std::uint32_t namespace_id, const Key& key,
                     const std::string& name) {
  std::vector<std::byte> bytes(24 + name.size());
  const std::uint32_t head[2] = {static_cast<std::uint32_t>(kind), namespace_id};
  std::memcpy(bytes.data(), head, 8);
  std::memcpy(bytes.data() + 8, &key, 16);
  if (!name.empty()) std::memcpy(bytes.data() + 24, name.data(), name.size());
  return block_checksum(bytes);
}

}  // namespace

std::size_t InodeIdHash::operator()(const InodeId& id) const noexcept {
  const auto kind = static_cast<std::uint64_t>(id.kind);
  return static_cast<std::size_t>((id.key.lo ^ (kind << 56) ^ id.namespace_id) *
                                  0x9e3779b97f4a7c15ULL) ^
         std::hash<std::string>()(id.name);
}

std::uint64_t inode_number(const InodeId& id) {
  if (id.kind == InodeKind::kRoot) return FUSE_ROOT_ID;
  const bool by_name = id.kind == InodeKind::kName || id.kind == InodeKind::kIndex;
  // Tools keep inode numbers in signed 64-bit integers; the low numbers are the root's.
  return (digest(id.kind, id.namespace_id, by_name ? Key{} : id.key, id.name) >> 1) | 0x100;
}

}  // namespace kvfs::mount
