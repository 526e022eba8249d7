#include "gpu/pack_codec.h"

#include <algorithm>
#include <cstring>

#include "gpu/pack_band.h"

namespace kvfs::gpu {
namespace {

const BandCode& band_code(PackCode code) {
#if defined(__x86_64__)
  if (code == PackCode::kAvx512) return kAvx512Band;
  if (code == PackCode::kAvx2) return kAvx2Band;
#else
  (void)code;
#endif
  return kScalarBand;
}

// How many escapes a head has before the end of `plane`.
std::uint32_t end_of(const std::byte* head, std::uint32_t plane) {
  std::uint32_t end = 0;
  std::memcpy(&end, head + std::size_t{plane} * sizeof(end), sizeof(end));
  return end;
}

}  // namespace

bool has_pack_code(PackCode code) {
#if defined(__x86_64__)
  if (code == PackCode::kAvx512) {
    return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
           __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512vbmi") != 0 &&
           __builtin_cpu_supports("avx512vbmi2") != 0;
  }
  if (code == PackCode::kAvx2) return __builtin_cpu_supports("avx2") != 0;
#endif
  return code == PackCode::kScalar;
}

PackCode best_pack_code() {
  static const PackCode best = has_pack_code(PackCode::kAvx512) ? PackCode::kAvx512
                               : has_pack_code(PackCode::kAvx2) ? PackCode::kAvx2
                                                                : PackCode::kScalar;
  return best;
}

HeadPacker::HeadPacker(const PackedLayout& layout, std::byte* head, PackCode code)
    : layout_(layout), head_(head), code_(code) {
  // The same block has the same bytes, those that mean nothing included.
  const std::size_t ends = std::size_t{layout.planes} * sizeof(std::uint32_t);
  std::memset(head + ends, 0, layout.bands_at - ends);
}

void HeadPacker::add(const std::uint16_t* plane) {
  const BandCode& code = band_code(code_);
  EscapeSink escapes{.base = reinterpret_cast<std::uint8_t*>(head_ + layout_.escapes_at),
                     .at = escapes_,
                     .room = layout_.escape_room};
  auto* band = reinterpret_cast<std::uint8_t*>(
      head_ + layout_.bands_at + std::size_t{plane_} * layout_.bands * layout_.band_bytes);
  for (std::uint32_t i = 0; i < layout_.bands; ++i) {
    code.pack(plane, layout_.head_dim, band, escapes);
    plane += std::size_t{kBandTokens} * layout_.head_dim;
    band += layout_.band_bytes;
  }
  escapes_ = escapes.at;
  std::memcpy(head_ + std::size_t{plane_} * sizeof(escapes_), &escapes_, sizeof(escapes_));
  if (++plane_ == layout_.planes) {
    const std::uint64_t end = layout_.escapes_at + std::min(escapes_, layout_.escape_room);
    std::memset(head_ + end, 0, layout_.head_bytes - end);
  }
}

PlaneEscapes escapes_of_plane(const PackedLayout& layout, const std::byte* head,
                              std::uint32_t plane) {
  const std::uint32_t first = plane == 0 ? 0 : end_of(head, plane - 1);
  return {.first = std::min(first, layout.escape_room),
          .end = std::min(end_of(head, plane), layout.escape_room)};
}

bool packed_fits(const PackedLayout& layout, const std::byte* head) {
  return end_of(head, layout.planes - 1) <= layout.escape_room;
}

void unpack_plane(const PackedLayout& layout, const std::byte* head, std::uint32_t plane,
                  std::uint16_t* values, PackCode code) {
  const BandCode& bands = band_code(code);
  const PlaneEscapes own = escapes_of_plane(layout, head, plane);
  EscapeSource escapes{.base = reinterpret_cast<const std::uint8_t*>(head + layout.escapes_at),
                       .at = own.first,
                       .room = own.end};
  const auto* band = reinterpret_cast<const std::uint8_t*>(
      head + layout.bands_at + std::size_t{plane} * layout.bands * layout.band_bytes);
  for (std::uint32_t i = 0; i < layout.bands; ++i) {
    bands.unpack(band, layout.head_dim, values, escapes);
    values += std::size_t{kBandTokens} * layout.head_dim;
    band += layout.band_bytes;
  }
}

}  // namespace kvfs::gpu
