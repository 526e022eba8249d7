// What every CPU can do, and what the others are compared with.
#include <algorithm>
#include <cstddef>

#include "gpu/pack_band.h"
#include "lib/format/packed_block.h"

namespace kvfs::gpu {
namespace {

std::uint16_t to_turned(std::uint16_t value) {  // exponent byte on top, sign at the bottom
  return static_cast<std::uint16_t>(value << 1 | value >> 15);
}
std::uint16_t from_turned(unsigned turned) {
  return static_cast<std::uint16_t>(turned >> 1 | turned << 15);
}

void pack(const std::uint16_t* values, std::uint32_t head_dim, std::uint8_t* band,
          EscapeSink& escapes) {
  std::uint8_t* base = band;
  std::uint8_t* low = base + head_dim;
  std::uint8_t* distances = low + std::size_t{kBandTokens} * head_dim;
  std::fill_n(base, head_dim, 0);
  for (std::uint32_t token = 0; token < kBandTokens; ++token) {
    for (std::uint32_t c = 0; c < head_dim; ++c) {
      const std::uint16_t turned = to_turned(values[std::size_t{token} * head_dim + c]);
      base[c] = std::max<std::uint8_t>(base[c], static_cast<std::uint8_t>(turned >> 8));
      low[std::size_t{token} * head_dim + c] = static_cast<std::uint8_t>(turned);
    }
  }
  const std::uint32_t third = head_dim / 8;
  std::fill_n(distances, std::size_t{kBandTokens} * 3 * third, 0);
  for (std::uint32_t token = 0; token < kBandTokens; ++token, distances += 3 * third) {
    for (std::uint32_t c = 0; c < head_dim; ++c) {
      const auto exponent =
          static_cast<std::uint8_t>(to_turned(values[std::size_t{token} * head_dim + c]) >> 8);
      const std::uint32_t distance =
          std::min<std::uint32_t>(kEscapeCode, std::uint32_t{base[c]} - exponent);
      for (std::uint32_t bit = 0; bit < 3; ++bit) {
        distances[bit * third + c / 8] |=
            static_cast<std::uint8_t>((distance >> bit & 1U) << (c % 8));
      }
      if (distance == kEscapeCode) escapes.put(exponent);
    }
  }
}

void unpack(const std::uint8_t* band, std::uint32_t head_dim, std::uint16_t* values,
            EscapeSource& escapes) {
  const std::uint8_t* base = band;
  const std::uint8_t* low = base + head_dim;
  const std::uint8_t* distances = low + std::size_t{kBandTokens} * head_dim;
  const std::uint32_t third = head_dim / 8;
  for (std::uint32_t token = 0; token < kBandTokens; ++token, distances += 3 * third) {
    for (std::uint32_t c = 0; c < head_dim; ++c) {
      unsigned distance = 0;
      for (std::uint32_t bit = 0; bit < 3; ++bit) {
        distance |= (distances[bit * third + c / 8] >> (c % 8) & 1U) << bit;
      }
      const unsigned exponent =
          distance == kEscapeCode ? escapes.get() : (base[c] - distance) & 0xffU;
      values[std::size_t{token} * head_dim + c] =
          from_turned(exponent << 8 | low[std::size_t{token} * head_dim + c]);
    }
  }
}

}  // namespace

const BandCode kScalarBand{.pack = pack, .unpack = unpack};

}  // namespace kvfs::gpu
