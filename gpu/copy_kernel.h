// The innermost loops of host copies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace kvfs::gpu {

// Rows of equal length in two dimensions of constant strides. Strides may be negative; rows of the
// destination do not overlap.
struct Grid {
  std::size_t row_bytes = 0;
  std::size_t inner =
      1;  // rows side by side, copied in this order before the outer dimension steps
  std::int64_t to_inner = 0, from_inner = 0;
  std::int64_t to_outer = 0, from_outer = 0;
};

// Where one grid begins and how many steps of the outer dimension it has.
struct Tile {
  std::byte* to;
  const std::byte* from;
  std::size_t outer;
};

// kCached writes through the cache; kStreaming past it, which saves reading the destination's lines
// first and is faster as soon as they would not stay in the cache anyway. After streaming copies a
// thread calls streaming_fence() before it tells another one.
enum class Stores : std::uint8_t { kCached, kStreaming };

// Copies the tiles in order. All have `grid`'s shape but for `outer`. Sources are fetched ahead,
// since tiles mostly lie in different pages, where the hardware's prefetchers stop.
void copy_tiles(const Grid& grid, std::span<const Tile> tiles, Stores stores);
void streaming_fence();

// Transfers of at least this many bytes are written kStreaming: more than a core's share of the
// cache. A constant, since what the system says of its last level may be the sum over a whole
// machine.
inline constexpr std::uint64_t kStreamingBytes = std::uint64_t{4} << 20;

}  // namespace kvfs::gpu
