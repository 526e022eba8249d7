#include "gpu/layer_part.h"

#include <algorithm>

#include "gpu/pack_codec.h"
#include "gpu/pages.h"

namespace kvfs::gpu {
namespace {

// Kernels read eight bytes at a time, copies are quicker from line to line.
constexpr std::uint64_t kLine = 64;
constexpr std::uint64_t lines(std::uint64_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }

}  // namespace

HeadParts head_parts(const BlockShape& shape) {
  if (shape.encoding == Encoding::kPacked) {
    const PackedLayout layout = shape.packed();
    return {layout.bands_at, std::uint64_t{layout.bands} * layout.band_bytes};
  }
  if (quantized(shape.encoding)) {
    const QuantizedLayout layout = shape.quantized();
    return {layout.numbers_at, layout.plane_values};
  }
  return {0, shape.head_bytes() / shape.planes()};
}

StoredPlanes stored_planes(const BlockShape& shape, const Pages& pages) {
  const HeadParts parts = head_parts(shape);
  StoredPlanes planes{.first = pages.first_layer * shape.kv_factor,
                      .count = layers_wanted(shape, pages) * shape.kv_factor,
                      .head_bytes = shape.stored_head_bytes()};
  planes.at = parts.header_bytes + planes.first * parts.each;
  if (shape.encoding == Encoding::kPacked) {
    planes.end_escape = shape.packed().escape_room;
    planes.escapes_at = shape.packed().escapes_at;
  }
  return planes;
}

EscapeRange escapes_of(const BlockShape& shape, const Pages& pages, std::span<const BlockAt> blocks,
                       std::uint32_t first_head, std::uint32_t heads) {
  if (shape.encoding != Encoding::kPacked) return {};
  const PackedLayout layout = shape.packed();
  const StoredPlanes planes = stored_planes(shape, pages);
  // Each head's is another line of memory.
  for (const BlockAt& block : blocks) {
    for (std::uint32_t head = first_head; head < first_head + heads; ++head) {
      __builtin_prefetch(block.memory + head * planes.head_bytes +
                         planes.first * sizeof(std::uint32_t));
    }
  }
  EscapeRange range{.first = layout.escape_room, .end = 0};
  for (const BlockAt& block : blocks) {
    for (std::uint32_t head = first_head; head < first_head + heads; ++head) {
      const std::byte* stored = block.memory + head * planes.head_bytes;
      for (std::uint32_t plane = planes.first; plane < planes.first + planes.count; ++plane) {
        const PlaneEscapes of_plane = escapes_of_plane(layout, stored, plane);
        range.first = std::min(range.first, of_plane.first);
        range.end = std::max(range.end, of_plane.end);
      }
    }
  }
  range.first = std::min(range.first, range.end);
  return range;
}

LayerPart layer_part(const BlockShape& shape, const Pages& pages, EscapeRange escapes) {
  const StoredPlanes stored = stored_planes(shape, pages);
  const HeadParts parts = head_parts(shape);
  LayerPart part{.planes = stored};
  std::uint64_t end = 0;
  const auto take = [&](std::uint64_t from, std::uint64_t bytes) {
    const std::uint64_t to = end;
    if (bytes > 0) part.rows.at(part.row_count++) = {.from = from, .to = to, .bytes = bytes};
    end += shape.encoding == Encoding::kRaw ? bytes : lines(bytes);
    return to;
  };
  take(0, parts.header_bytes);
  part.planes.at = take(stored.at, stored.count * parts.each);
  if (shape.encoding == Encoding::kPacked) {
    part.planes.first_escape = escapes.first;
    part.planes.end_escape = escapes.end;
    part.planes.escapes_at = take(stored.escapes_at + escapes.first, escapes.end - escapes.first);
  }
  part.planes.head_bytes = end;
  return part;
}

std::uint64_t layer_part_bytes(const BlockShape& shape, const Pages& pages) {
  EscapeRange escapes;
  if (shape.encoding == Encoding::kPacked) {
    escapes.end = static_cast<std::uint32_t>(std::uint64_t{shape.packed().escape_room} *
                                             layers_wanted(shape, pages) / shape.layers);
  }
  return layer_part(shape, pages, escapes).planes.head_bytes;
}

}  // namespace kvfs::gpu
