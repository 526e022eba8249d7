// One band at a time: the loops of packing, for each kind of CPU.
#pragma once

#include <bit>
#include <cstdint>

namespace kvfs::gpu {

// The escapes of a head from some place on. What goes beyond the room is counted, not kept.
struct EscapeSink {
  std::uint8_t* base;
  std::uint32_t at, room;

  void put(std::uint8_t exponent) {
    if (at < room) base[at] = exponent;
    ++at;
  }
  // Of a token's channels from `row` on, those with a bit in `which`: few, mostly.
  void put(const std::uint16_t* row, std::uint64_t which) {
    for (; which != 0; which &= which - 1) {
      put(static_cast<std::uint8_t>(row[std::countr_zero(which)] >> 7));
    }
  }
};
struct EscapeSource {
  const std::uint8_t* base;
  std::uint32_t at, room;

  std::uint8_t get() {
    const std::uint8_t exponent = at < room ? base[at] : std::uint8_t{0};
    ++at;
    return exponent;
  }
};

struct BandCode {
  // values [16][head_dim] to a band, and back.
  void (*pack)(const std::uint16_t* values, std::uint32_t head_dim, std::uint8_t* band,
               EscapeSink& escapes);
  void (*unpack)(const std::uint8_t* band, std::uint32_t head_dim, std::uint16_t* values,
                 EscapeSource& escapes);
};

extern const BandCode kScalarBand;
#if defined(__x86_64__)
extern const BandCode kAvx2Band;
extern const BandCode kAvx512Band;
#endif

}  // namespace kvfs::gpu
