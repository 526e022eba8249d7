#include "gpu/lane_spans.h"

#include <algorithm>

namespace kvfs::gpu {
namespace {

// Rows up to here are fetched: a DMA would take 0.1 us for each.
constexpr std::uint64_t kMostFetchedBytes = std::uint64_t{4} << 10;
// Rows of one copy are no further apart: below what any GPU takes as a pitch.
constexpr std::uint64_t kMostStride = std::uint64_t{1} << 30;

}  // namespace

LaneTaken take_piece(const LaneMovement& movement, const LanePiece& piece, bool fetch) {
  LaneTaken taken{
      .spans = {}, .fetched = {}, .planes = stored_planes(movement.shape, movement.pages)};
  const std::uint64_t apart = taken.planes.head_bytes;
  const std::uint32_t first_head = movement.pages.first_head + piece.first_head;
  const std::uint64_t bytes = piece.heads * apart;
  if (!movement.some_layers()) {
    taken.spans.reserve(piece.blocks.size());
    for (const BlockAt& block : piece.blocks) {
      taken.spans.push_back(
          {block.memory + first_head * apart, taken.spans.size() * bytes, bytes, nullptr});
    }
    return taken;
  }
  const LayerPart of_head =
      layer_part(movement.shape, movement.pages,
                 escapes_of(movement.shape, movement.pages, piece.blocks, first_head, piece.heads));
  taken.planes = of_head.planes;
  // As many as can be are to lie evenly apart: those of all blocks or, where slots are longer than
  // what is wanted of them, each head's.
  const bool dense =
      piece.blocks.size() == 1 || piece.blocks[1].memory == piece.blocks[0].memory + bytes;
  const std::size_t heads = piece.heads;
  const std::size_t blocks = piece.blocks.size();
  for (const LayerPart::Row& row : of_head.all()) {
    if (fetch && row.bytes <= kMostFetchedBytes) {
      taken.fetched.push_back(row);
      continue;
    }
    for (std::size_t i = 0; i < blocks * heads; ++i) {
      const std::size_t block = dense ? i / heads : i % blocks;
      const std::size_t head = dense ? i % heads : i / blocks;
      taken.spans.push_back({piece.blocks[block].memory + (first_head + head) * apart + row.from,
                             row.to + (block * heads + head) * of_head.planes.head_bytes, row.bytes,
                             nullptr});
    }
  }
  return taken;
}

LaneRows first_rows(std::span<const LaneSpan> spans) {
  LaneRows rows{.first = spans.front(), .count = 1, .host_stride = 0, .device_stride = 0};
  for (std::size_t next = 1; next < spans.size(); ++next) {
    const LaneSpan& before = spans[next - 1];
    const LaneSpan& span = spans[next];
    // The driver refuses a copy across two registrations or two allocations.
    if (span.pinned != before.pinned || span.allocation != before.allocation ||
        span.bytes != before.bytes || span.host <= before.host || span.device <= before.device) {
      break;
    }
    const auto host = static_cast<std::uint64_t>(span.host - before.host);
    const std::uint64_t device = span.device - before.device;
    if (rows.count == 1) {
      if (std::min(host, device) < span.bytes || std::max(host, device) > kMostStride) break;
      rows.host_stride = host;
      rows.device_stride = device;
    }
    if (host != rows.host_stride || device != rows.device_stride) break;
    ++rows.count;
  }
  return rows;
}

}  // namespace kvfs::gpu
