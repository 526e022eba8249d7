// The encoding `packed`: a BF16 block in about 3/4 of its bytes, bit for bit.
//
// Why it works: among 16 consecutive tokens of one channel the exponents of real KV lie close
// together. Of each value its sign and mantissa are kept as they are, of its exponent the distance
// to the largest among the 16: three bits do for 97-99 %; the others, escapes, have their exponent
// in a list. (FP16 has 11 bits of sign and mantissa, so no more than 16/13.5 could be gained: it is
// refused.)
//
// A packed block is one part of head_bytes for each KV head, in order, so any range of heads is
// one range of bytes and is decoded by itself. All numbers are little-endian. A head:
//
//   [ ends: u32 * planes ][ 0 to a multiple of 64 ][ bands ][ escapes ][ 0 to a multiple of 64 ]
//
// A plane is one layer's K or V, [tokens][head_dim] in the canonical block, in its order there. A
// band is 16 consecutive tokens of a plane; bands follow one another, plane by plane:
//
//   base      u8 [head_dim]          largest exponent byte of each channel
//   low       u8 [16][head_dim]      mantissa << 1 | sign
//   distance  u8 [16][3][head_dim/8] of channel c bit c % 8 of byte c / 8, in the first row of the
//                                    three bit 0 of its distance, in the last one bit 2
//
// A distance of 0 to 6 says that the exponent byte is base - distance (modulo 256); 7 that it is
// the next one in `escapes`. Those are in the order of planes, tokens, channels; ends[p] counts
// them up to and with plane p, so planes are decoded independently. `escapes` has room for one
// value in 24: real models need it for 1.6 to 2 % of values, in a prompt's first block for up to
// 3.6 %. A head with more does not fit: its last `ends` is larger than the room, and nothing else
// of it means anything, and its block is not stored: the prefix ends before it. (To keep it raw
// would take slots of a second size, a flag in every record, and ranks that store once more since
// another one's heads did not fit. No block of 100,000 tokens of real KV needs that; a cache may
// lack a block. Commits stop there, and unpackable_blocks counts.)
//
// Arbitrary bytes decode to some numbers: where values go depends on the layout alone, and an
// escape beyond its plane's end, or the room, reads as exponent 0.
#pragma once

#include <cstdint>

namespace kvfs {

constexpr std::uint32_t kBandTokens = 16;
constexpr std::uint32_t kEscapeCode = 7;
constexpr std::uint32_t kValuesPerEscape = 24;

// What kernels need to know of a head; also the argument of the GPU's.
struct PackedLayout {
  std::uint32_t planes = 0;
  std::uint32_t tokens = 0;    // a multiple of kBandTokens
  std::uint32_t head_dim = 0;  // a multiple of 8
  std::uint32_t band_bytes = 0;
  std::uint32_t bands = 0;  // of a plane
  std::uint32_t escape_room = 0;
  std::uint64_t bands_at = 0;  // bytes into a head
  std::uint64_t escapes_at = 0;
  std::uint64_t head_bytes = 0;
};

// Whether blocks of these dimensions can be packed at all.
constexpr bool packable(std::uint32_t tokens, std::uint32_t head_dim) {
  return tokens != 0 && tokens % kBandTokens == 0 && head_dim != 0 && head_dim % 8 == 0;
}

constexpr PackedLayout packed_layout(std::uint32_t planes, std::uint32_t tokens,
                                     std::uint32_t head_dim) {
  const auto aligned = [](std::uint64_t bytes) { return (bytes + 63) / 64 * 64; };
  PackedLayout layout;
  layout.planes = planes;
  layout.tokens = tokens;
  layout.head_dim = head_dim;
  layout.band_bytes = head_dim + kBandTokens * (head_dim + 3 * (head_dim / 8));
  layout.bands = tokens / kBandTokens;
  const std::uint64_t values = std::uint64_t{planes} * tokens * head_dim;
  layout.escape_room = static_cast<std::uint32_t>(values / kValuesPerEscape);
  layout.bands_at = aligned(std::uint64_t{planes} * sizeof(std::uint32_t));
  layout.escapes_at = layout.bands_at + std::uint64_t{planes} * layout.bands * layout.band_bytes;
  layout.head_bytes = aligned(layout.escapes_at + layout.escape_room);
  return layout;
}

}  // namespace kvfs
