// What the journal holds, as bytes. LMDB tables:
//
//   meta        text -> text                     "format", "store_id"
//   namespaces  u64 namespace id -> JSON         {"name","geometry","uid","gid","mode","created"}
//   blocks      u64 namespace id << 32 | block id -> BlockHead, BlockGroup[groups],
//   Token[block_tokens] names       u32 BE namespace id, name -> Key labels      u32 BE namespace
//   id, Key -> text
//
// Blocks have integer keys, so that a restart reads them in the order of their ids, which is the
// order of the catalog's arrays.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "fs/store/store.h"
#include "fs/tiers/block_tier.h"
#include "lib/format/geometry.h"
#include "lib/format/index_layout.h"

namespace kvfs::store {

inline constexpr std::string_view kJournalFormat = "1";

enum BlockHeadFlags : std::uint32_t { kBlockPinned = 1 };

struct BlockHead {
  Key key;
  Extra extra;
  BlockId parent = kNoBlock;
  std::uint32_t depth = 0;
  std::uint32_t hits = 0;
  std::uint32_t stored_at = 0;
  std::uint32_t last_hit = 0;
  std::uint32_t flags = 0;  // BlockHeadFlags
  std::uint32_t groups = 0;
  std::uint32_t tokens = 0;
};
static_assert(sizeof(BlockHead) == 64 && std::is_trivially_copyable_v<BlockHead>);

struct BlockGroup {
  tiers::TierSlot slot;  // invalid: the group is not stored
  std::uint64_t checksum = 0;
};
static_assert(sizeof(BlockGroup) == 16 && std::is_trivially_copyable_v<BlockGroup>);

std::string encode_block(const BlockHead& head, std::span<const BlockGroup> groups,
                         std::span<const Token> tokens);
// Views of a record that lies in a reader's memory, aligned or not.
class BlockRecord {
 public:
  // Empty when the bytes cannot be a record of this geometry.
  static std::optional<BlockRecord> parse(std::span<const std::byte> bytes, std::uint32_t groups,
                                          std::uint32_t block_tokens);
  [[nodiscard]] const BlockHead& head() const { return head_; }
  [[nodiscard]] BlockGroup group(std::uint32_t index) const;
  void tokens(std::span<Token> out) const;

 private:
  BlockHead head_;
  std::span<const std::byte> bytes_;
};

struct NamespaceRecord {
  std::uint32_t id = 0;
  std::string name;
  Geometry geometry;
  Ownership ownership;
  std::uint32_t created_at = 0;
};
std::string encode_namespace(const NamespaceRecord& record);
Result<NamespaceRecord> decode_namespace(std::uint32_t id, std::string_view json);

}  // namespace kvfs::store
