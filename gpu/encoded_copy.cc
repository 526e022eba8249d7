#include "gpu/encoded_copy.h"

#include <algorithm>
#include <array>
#include <vector>

#include "gpu/pages.h"

namespace kvfs::gpu {
namespace {

// Half of the first-level cache: the stored bytes want to be there too.
constexpr std::size_t kBufferBytes = std::size_t{16} << 10;
constexpr std::size_t kVectorAlignment = 64;

// This thread's buffer; allocated at its first use, and again for planes larger than any before.
std::byte* plane_buffer(std::size_t bytes) {
  thread_local std::vector<std::byte> memory;
  if (memory.size() < bytes + kVectorAlignment) memory.resize(bytes + kVectorAlignment);
  const auto over = reinterpret_cast<std::uintptr_t>(memory.data()) % kVectorAlignment;
  return memory.data() + (kVectorAlignment - over) % kVectorAlignment;
}

// So many planes ahead memory is fetched into the second-level cache: what hardware fetches by
// itself stops at each page.
constexpr std::uint32_t kPlanesAhead = 2;

template <bool kToWrite>
void fetch(const std::byte* memory, std::size_t bytes) {
  for (std::size_t at = 0; at < bytes; at += 64) {
    __builtin_prefetch(memory + at, kToWrite ? 1 : 0, 2);
    // The compiler takes a function that does nothing else for one without effect, and leaves out
    // calls of it.
    asm volatile("" : : "r"(memory + at));  // NOLINT(hicpp-no-assembler)
  }
}

}  // namespace

EncodedCopy::EncodedCopy(const BlockShape& shape, std::span<const BlockAt> blocks,
                         const Pages& pages, Direction direction, Stores stores)
    : shape_(shape),
      blocks_(blocks),
      pages_(pages),
      direction_(direction),
      stores_(stores),
      heads_(heads_wanted(shape, pages)),
      codec_(shape),
      plane_bytes_(std::size_t{shape.tokens} * shape.head_dim * shape.element_bytes),
      planes_{.first = pages.first_layer * shape.kv_factor,
              .end = (pages.first_layer + layers_wanted(shape, pages)) * shape.kv_factor},
      batch_(static_cast<std::uint32_t>(std::max<std::size_t>(1, kBufferBytes / plane_bytes_))) {}

void EncodedCopy::copy(std::size_t begin, std::size_t end) const {
  for (std::size_t item = begin; item < end; ++item) {
    const BlockAt& block = blocks_[item / heads_];
    const auto head = static_cast<std::uint32_t>(item % heads_);
    if (direction_ == Direction::kToPages) {
      decode_head(block, head);
    } else {
      encode_head(block, head);
    }
  }
}

std::byte* EncodedCopy::head_of(const BlockAt& block, std::uint32_t head) const {
  return block.memory + (pages_.first_head + head) * codec_.head_bytes();
}

template <bool kToWrite>
void EncodedCopy::fetch_stored(const std::byte* stored, std::uint32_t plane) const {
  if (plane >= planes_.end) return;
  const HeadCodec::Part part = codec_.part(plane);
  fetch<kToWrite>(stored + part.at, part.bytes);
}

void EncodedCopy::fetch_plane(const BlockAt& block, std::uint32_t head, std::uint32_t plane) const {
  const std::byte* base = page_base(head, plane);
  const std::size_t row = std::size_t{shape_.head_dim} * shape_.element_bytes;
  for_each_segment(shape_, pages_, block.block, [&](const Segment& segment) {
    for (std::uint32_t token = 0; token < segment.tokens; ++token) {
      fetch<false>(base + segment.offset + token * pages_.token_stride, row);
    }
  });
}

void EncodedCopy::decode_head(const BlockAt& block, std::uint32_t head) const {
  std::byte* buffer = plane_buffer(plane_bytes_ * batch_);
  const std::byte* stored = head_of(block, head);
  for (std::uint32_t first = planes_.first; first < planes_.end; first += batch_) {
    const std::uint32_t count = std::min(batch_, planes_.end - first);
    for (std::uint32_t i = 0; i < count; ++i) {
      fetch_stored<false>(stored, first + i + kPlanesAhead);
      codec_.decode(stored, first + i, buffer + i * plane_bytes_);
    }
    move_planes(block, head, first, count, buffer);
  }
}

void EncodedCopy::encode_head(const BlockAt& block, std::uint32_t head) const {
  std::byte* buffer = plane_buffer(plane_bytes_ * batch_);
  std::byte* stored = head_of(block, head);
  HeadCodec::Encoder encoder(codec_, stored);
  for (std::uint32_t first = 0; first < codec_.planes(); first += batch_) {
    const std::uint32_t count = std::min(batch_, codec_.planes() - first);
    move_planes(block, head, first, count, buffer);
    for (std::uint32_t i = 0; i < count; ++i) {
      fetch_stored<true>(stored, first + i + kPlanesAhead);
      if (first + batch_ + i < codec_.planes()) fetch_plane(block, head, first + batch_ + i);
      encoder.add(buffer + i * plane_bytes_);
    }
  }
}

std::byte* EncodedCopy::page_base(std::uint32_t head, std::uint32_t plane) const {
  return layer_base(shape_, pages_, plane / shape_.kv_factor, plane % shape_.kv_factor) +
         head * pages_.head_stride;
}

void EncodedCopy::move_planes(const BlockAt& block, std::uint32_t head, std::uint32_t first,
                              std::uint32_t count, std::byte* buffer) const {
  const bool to_pages = direction_ == Direction::kToPages;
  const std::int64_t row = std::int64_t{shape_.head_dim} * shape_.element_bytes;
  const Grid grid{.row_bytes = static_cast<std::size_t>(row),
                  .to_outer = to_pages ? pages_.token_stride : row,
                  .from_outer = to_pages ? row : pages_.token_stride};
  // The buffer is to stay in the cache.
  const Stores stores = to_pages ? stores_ : Stores::kCached;
  std::array<Tile, 64> tiles;
  std::size_t there = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    std::byte* const base = page_base(head, first + i);
    for_each_segment(shape_, pages_, block.block, [&](const Segment& segment) {
      std::byte* const in_buffer = buffer + i * plane_bytes_ + segment.token * row;
      std::byte* const in_page = base + segment.offset;
      tiles[there++] = {.to = to_pages ? in_page : in_buffer,
                        .from = to_pages ? in_buffer : in_page,
                        .outer = segment.tokens};
      if (there < tiles.size()) return;
      copy_tiles(grid, tiles, stores);
      there = 0;
    });
  }
  copy_tiles(grid, std::span(tiles).first(there), stores);
}

}  // namespace kvfs::gpu
