// The innermost loops of host copies.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvfs::gpu {

// Rows of equal length at constant strides. Strides may be negative; rows do not overlap.
struct Rows {
  std::byte* to;
  const std::byte* from;
  std::int64_t to_stride;
  std::int64_t from_stride;
  std::size_t bytes;  // of a row
  std::size_t count;
};

// kCached writes through the cache; kStreaming past it, which saves reading the destination's lines
// first and is faster as soon as they would not stay in the cache anyway. After streaming copies a
// thread calls streaming_fence() before it tells another one.
enum class Stores : std::uint8_t { kCached, kStreaming };
void copy_rows(const Rows& rows, Stores stores);
void streaming_fence();

// Transfers of at least this many bytes are written kStreaming: half of the last-level cache.
std::uint64_t streaming_threshold();

}  // namespace kvfs::gpu
