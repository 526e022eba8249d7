// A prefix file as read(2) shows it: safetensors, a function of (geometry, number of blocks, key).
//
//   u64 LE header length | JSON, padded with spaces so that data starts at a multiple of 4096 |
//   kv           dtype  [blocks, kv_heads, layers, kv_factor, block_tokens, head_dim]
//                (several groups: kv.0, kv.1, ...; opaque layout: U8 [blocks, block_bytes])
//   scales       F32    [blocks, kv_heads, layers, kv_factor]     of fp8 and int8 only
//   errors       F32    the same       (scales.0, ..., errors.0, ... likewise)
//   checksums    U64    [blocks]       XXH3-64 of each block's bytes as they are stored
//                (checksums.0, ... likewise)
//   extras       U64    [blocks, 2]    Extra of each block (lo, hi)
//   tokens       I32    [blocks * block_tokens]
//
// `kv` of a packed namespace is unpacked: the engine's numbers. That of a quantized one has the
// numbers that are stored, F8_E4M3 or I8: kv * scales is what an engine gets, and `errors` how far
// that is from what one stored (lib/format/quantized_block.h). A windowed group's tensors have the
// last min(blocks, window_blocks) blocks only.
// __metadata__: format "kvfs.prefix.v1", key (hex of the tip), blocks, geometry (JSON text).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "lib/format/geometry.h"
#include "lib/format/result.h"

namespace kvfs {

inline constexpr std::string_view kPrefixSuffix = ".safetensors";
inline constexpr std::uint32_t kMaxPrefixBlocks = 1U << 24;  // keeps all offsets within 64 bits

// Byte positions in a prefix file of `blocks` blocks.
struct PrefixLayout {
  std::uint64_t header_bytes = 0;  // where data starts; multiple of 4096
  std::uint32_t blocks = 0;
  std::uint32_t groups = 0;
  std::array<std::uint32_t, kMaxGroups> first_block{};  // first block each group holds
  std::array<std::uint64_t, kMaxGroups> kv{};           // offset of kv of group g
  std::array<std::uint64_t, kMaxGroups> scales{};       // quantized encodings only
  std::array<std::uint64_t, kMaxGroups> errors{};
  std::array<std::uint64_t, kMaxGroups> checksums{};
  std::uint64_t extras = 0;
  std::uint64_t tokens = 0;
  std::uint64_t file_bytes = 0;
  // Where a tensor of group g begins.
  [[nodiscard]] std::uint64_t offset(BlockTensor tensor, std::size_t group) const {
    if (tensor == BlockTensor::kNumbers) return kv[group];
    return tensor == BlockTensor::kScales ? scales[group] : errors[group];
  }
};
PrefixLayout prefix_layout(const Geometry& geometry, std::uint32_t blocks);

// Exactly prefix_layout().header_bytes long.
std::string prefix_header(const Geometry& geometry, std::uint32_t blocks, const Key& key);

struct PrefixHeader {
  std::uint32_t blocks;
  Key key;
  PrefixLayout layout;
};
// Reads and checks the header of an import: the file must be byte for byte what prefix_header()
// would write for `geometry`; a difference is named. `file_bytes` is the file's size (truncated and
// padded files are told apart). `head` holds at least the first min(file_bytes, header) bytes.
Result<PrefixHeader> parse_prefix_header(std::span<const std::byte> head, std::uint64_t file_bytes,
                                         const Geometry& geometry);
// PrefixLayout::header_bytes from a file's first 8 bytes, bounded to 1 MiB.
Result<std::uint64_t> prefix_header_bytes(std::span<const std::byte> first8);

// "<hex>.safetensors" <-> key.
std::string prefix_file_name(const Key& key);
std::optional<Key> key_from_file_name(std::string_view name);

}  // namespace kvfs
