// LayerPart: what a copy of some layers takes of each stored head.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "gpu/device.h"
#include "gpu/stored_planes.h"

namespace kvfs::gpu {

// Of a stored head, the bytes before the planes' own parts, which are of all planes, and those of
// each part: a packed head's bands, a quantized one's numbers.
struct HeadParts {
  std::uint64_t header_bytes, each;
};
HeadParts head_parts(const BlockShape& shape);

// The planes wanted of heads as they are stored.
StoredPlanes stored_planes(const BlockShape& shape, const Pages& pages);

// Of the lists of escapes of packed heads, what holds those of some planes of all of them.
struct EscapeRange {
  std::uint32_t first = 0, end = 0;
};
// Of `heads` heads of each block from `first_head` on. Any bytes of theirs give a range within the
// list.
EscapeRange escapes_of(const BlockShape& shape, const Pages& pages, std::span<const BlockAt> blocks,
                       std::uint32_t first_head, std::uint32_t heads);

// Bytes that are copied of each head to lie one behind the other: raw, its layers; encoded, what
// it has of all planes (scales, ends of escapes), the planes' numbers or bands, and their escapes.
struct LayerPart {
  struct Row {
    std::uint64_t from, to, bytes;  // into the stored head, into the copy
  };
  std::array<Row, 3> rows;
  std::size_t row_count = 0;
  StoredPlanes planes;  // in the copy
  [[nodiscard]] std::span<const Row> all() const { return std::span(rows).first(row_count); }
};
LayerPart layer_part(const BlockShape& shape, const Pages& pages, EscapeRange escapes);

// About what that is a head, before its escapes are known.
std::uint64_t layer_part_bytes(const BlockShape& shape, const Pages& pages);

}  // namespace kvfs::gpu
