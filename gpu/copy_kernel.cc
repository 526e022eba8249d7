#include "gpu/copy_kernel.h"

#include <algorithm>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace kvfs::gpu {
namespace {

void copy_portable(const Grid& grid, const Tile& tile) {
  for (std::size_t outer = 0; outer < tile.outer; ++outer) {
    std::byte* to = tile.to + static_cast<std::int64_t>(outer) * grid.to_outer;
    const std::byte* from = tile.from + static_cast<std::int64_t>(outer) * grid.from_outer;
    for (std::size_t inner = 0; inner < grid.inner; ++inner) {
      std::memcpy(to, from, grid.row_bytes);
      to += grid.to_inner;
      from += grid.from_inner;
    }
  }
}

#if defined(__x86_64__)

constexpr std::size_t kVector = 32;
constexpr std::size_t kStep = 4 * kVector;
// How far ahead sources are fetched into the second-level cache: enough to cover a page walk and a
// read from memory, little enough to be there still when its turn comes.
constexpr std::size_t kAheadBytes = std::size_t{16} << 10;
constexpr std::size_t kMaxAheadTiles = 8;
// Of a tile longer than that, its own bytes are fetched.
constexpr std::ptrdiff_t kAheadWithin = 2048;

template <Stores kStores>
[[gnu::target("avx2"), gnu::always_inline]] inline void put(std::byte* to, __m256i value) {
  auto* address = reinterpret_cast<__m256i*>(to);
  if constexpr (kStores == Stores::kStreaming) {
    _mm256_stream_si256(address, value);
  } else {
    _mm256_storeu_si256(address, value);
  }
}

[[gnu::target("avx2"), gnu::always_inline]] inline __m256i get(const std::byte* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

// bytes is a multiple of kVector; for kStreaming `to` is too. `ahead` is fetched meanwhile.
template <Stores kStores>
[[gnu::target("avx2"), gnu::always_inline]] inline void copy_row(std::byte* to,
                                                                 const std::byte* from,
                                                                 std::size_t bytes,
                                                                 const std::byte* ahead) {
  std::size_t i = 0;
  for (; i + kStep <= bytes; i += kStep) {
    _mm_prefetch(reinterpret_cast<const char*>(ahead + i), _MM_HINT_T1);
    _mm_prefetch(reinterpret_cast<const char*>(ahead + i + 64), _MM_HINT_T1);
    const __m256i a = get(from + i);
    const __m256i b = get(from + i + kVector);
    const __m256i c = get(from + i + 2 * kVector);
    const __m256i d = get(from + i + 3 * kVector);
    put<kStores>(to + i, a);
    put<kStores>(to + i + kVector, b);
    put<kStores>(to + i + 2 * kVector, c);
    put<kStores>(to + i + 3 * kVector, d);
  }
  for (; i < bytes; i += kVector) put<kStores>(to + i, get(from + i));
}

// `ahead`: distance from a source byte to the one of a later tile at the same place.
template <Stores kStores>
[[gnu::target("avx2")]] void copy_avx2(const Grid& grid, const Tile& tile, std::ptrdiff_t ahead) {
  std::byte* to_row = tile.to;
  const std::byte* from_row = tile.from;
  for (std::size_t outer = 0; outer < tile.outer; ++outer) {
    std::byte* to = to_row;
    const std::byte* from = from_row;
    for (std::size_t inner = 0; inner < grid.inner; ++inner) {
      copy_row<kStores>(to, from, grid.row_bytes, from + ahead);
      to += grid.to_inner;
      from += grid.from_inner;
    }
    to_row += grid.to_outer;
    from_row += grid.from_outer;
  }
}

bool has_avx2() {
  static const bool has = __builtin_cpu_supports("avx2") != 0;
  return has;
}

bool vectors_fit(const Grid& grid, std::span<const Tile> tiles) {
  std::uintptr_t bits = grid.row_bytes | static_cast<std::uintptr_t>(grid.to_inner) |
                        static_cast<std::uintptr_t>(grid.to_outer);
  for (const Tile& tile : tiles) bits |= reinterpret_cast<std::uintptr_t>(tile.to);
  return bits % kVector == 0;
}

void copy_tiles_avx2(const Grid& grid, std::span<const Tile> tiles, Stores stores) {
  const std::size_t tile_bytes = std::max<std::size_t>(
      1, tiles.empty() ? 1 : grid.row_bytes * grid.inner * tiles.front().outer);
  const std::size_t ahead = std::clamp<std::size_t>(kAheadBytes / tile_bytes, 1, kMaxAheadTiles);
  for (std::size_t i = 0; i < tiles.size(); ++i) {
    const Tile& later = tiles[std::min(i + ahead, tiles.size() - 1)];
    const bool long_tile = tile_bytes >= 4 * kAheadBytes;
    const std::ptrdiff_t distance = long_tile ? kAheadWithin : later.from - tiles[i].from;
    if (stores == Stores::kStreaming) {
      copy_avx2<Stores::kStreaming>(grid, tiles[i], distance);
    } else {
      copy_avx2<Stores::kCached>(grid, tiles[i], distance);
    }
  }
}

#endif

}  // namespace

void copy_tiles(const Grid& grid, std::span<const Tile> tiles, Stores stores) {
#if defined(__x86_64__)
  if (has_avx2() && vectors_fit(grid, tiles)) return copy_tiles_avx2(grid, tiles, stores);
#endif
  for (const Tile& tile : tiles) copy_portable(grid, tile);
}

void streaming_fence() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

}  // namespace kvfs::gpu
