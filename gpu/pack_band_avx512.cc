// 64 channels at a time: one bit of their distances is a mask register.
#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstring>

#include "gpu/pack_band.h"
#include "lib/format/packed_block.h"

#define KVFS_AVX512 [[gnu::target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2")]]

namespace kvfs::gpu {
namespace {

constexpr std::uint32_t kLanes = 64;

// Some channels: `lanes` of them, a multiple of 8.
struct Chunk {
  std::uint32_t first, lanes;
  [[nodiscard]] __mmask64 bytes() const {
    return lanes == kLanes ? ~__mmask64{0} : (__mmask64{1} << lanes) - 1;
  }
  [[nodiscard]] __mmask32 low_words() const { return static_cast<__mmask32>(bytes()); }
  [[nodiscard]] __mmask32 high_words() const { return static_cast<__mmask32>(bytes() >> 32); }
};

Chunk chunk_at(std::uint32_t first, std::uint32_t head_dim) {
  return {first, std::min(kLanes, head_dim - first)};
}

// Of constant length where it mostly is: one instruction then.
__mmask64 get_bits(const std::uint8_t* from, std::uint32_t lanes) {
  __mmask64 bits = 0;
  if (lanes == kLanes) {
    std::memcpy(&bits, from, sizeof(bits));
  } else {
    std::memcpy(&bits, from, lanes / 8);
  }
  return bits;
}
void put_bits(std::uint8_t* to, __mmask64 bits, std::uint32_t lanes) {
  if (lanes == kLanes) {
    std::memcpy(to, &bits, sizeof(bits));
  } else {
    std::memcpy(to, &bits, lanes / 8);
  }
}

constexpr std::array<std::uint8_t, kLanes> every_second(std::uint8_t from) {
  std::array<std::uint8_t, kLanes> index{};
  for (std::uint32_t i = 0; i < kLanes; ++i) index[i] = static_cast<std::uint8_t>(2 * i + from);
  return index;
}
alignas(64) constexpr auto kLowBytes = every_second(0);
alignas(64) constexpr auto kHighBytes = every_second(1);

KVFS_AVX512 void pack_chunk(const std::uint16_t* values, std::uint32_t head_dim, Chunk chunk,
                            std::uint8_t* band) {
  const __m512i lows = _mm512_load_si512(kLowBytes.data());
  const __m512i highs = _mm512_load_si512(kHighBytes.data());
  __m512i exponents[kBandTokens];
  __m512i base = _mm512_setzero_si512();
  std::uint8_t* low_row = band + head_dim + chunk.first;
  for (std::uint32_t token = 0; token < kBandTokens; ++token, low_row += head_dim) {
    const std::uint16_t* row = values + std::size_t{token} * head_dim + chunk.first;
    const __m512i a = _mm512_maskz_loadu_epi16(chunk.low_words(), row);
    const __m512i b = chunk.lanes > 32 ? _mm512_maskz_loadu_epi16(chunk.high_words(), row + 32)
                                       : _mm512_setzero_si512();
    const __m512i turned_a = _mm512_shldi_epi16(a, a, 1);
    const __m512i turned_b = _mm512_shldi_epi16(b, b, 1);
    _mm512_mask_storeu_epi8(low_row, chunk.bytes(),
                            _mm512_permutex2var_epi8(turned_a, lows, turned_b));
    exponents[token] = _mm512_permutex2var_epi8(turned_a, highs, turned_b);
    base = _mm512_max_epu8(base, exponents[token]);
  }
  _mm512_mask_storeu_epi8(band + chunk.first, chunk.bytes(), base);
  const std::uint32_t third = head_dim / 8;
  std::uint8_t* distances = band + (1 + kBandTokens) * std::size_t{head_dim} + chunk.first / 8;
  for (std::uint32_t token = 0; token < kBandTokens; ++token, distances += 3 * third) {
    const __m512i distance =
        _mm512_min_epu8(_mm512_sub_epi8(base, exponents[token]), _mm512_set1_epi8(kEscapeCode));
    put_bits(distances, _mm512_test_epi8_mask(distance, _mm512_set1_epi8(1)), chunk.lanes);
    put_bits(distances + third, _mm512_test_epi8_mask(distance, _mm512_set1_epi8(2)), chunk.lanes);
    put_bits(distances + 2 * third, _mm512_test_epi8_mask(distance, _mm512_set1_epi8(4)),
             chunk.lanes);
  }
}

KVFS_AVX512 void pack(const std::uint16_t* values, std::uint32_t head_dim, std::uint8_t* band,
                      EscapeSink& escapes) {
  for (std::uint32_t first = 0; first < head_dim; first += kLanes) {
    pack_chunk(values, head_dim, chunk_at(first, head_dim), band);
  }
  // Escapes are in the order of tokens: after all channels.
  const std::uint32_t third = head_dim / 8;
  const std::uint8_t* distances = band + (1 + kBandTokens) * std::size_t{head_dim};
  for (std::uint32_t token = 0; token < kBandTokens; ++token, distances += 3 * third) {
    for (std::uint32_t first = 0; first < head_dim; first += kLanes) {
      const Chunk chunk = chunk_at(first, head_dim);
      const std::uint8_t* at = distances + first / 8;
      escapes.put(values + std::size_t{token} * head_dim + first,
                  get_bits(at, chunk.lanes) & get_bits(at + third, chunk.lanes) &
                      get_bits(at + 2 * third, chunk.lanes));
    }
  }
}

// Those beyond the room read as 0.
KVFS_AVX512 __m512i get_escapes(__m512i exponents, __mmask64 which, EscapeSource& escapes) {
  const auto count = static_cast<std::uint32_t>(std::popcount(which));
  const std::uint32_t at = std::min(escapes.at, escapes.room);
  const std::uint32_t there = std::min(count, escapes.room - at);
  const __mmask64 mask = there == kLanes ? ~__mmask64{0} : (__mmask64{1} << there) - 1;
  escapes.at += count;
  return _mm512_mask_expand_epi8(exponents, which,
                                 _mm512_maskz_loadu_epi8(mask, escapes.base + at));
}

KVFS_AVX512 void unpack(const std::uint8_t* band, std::uint32_t head_dim, std::uint16_t* values,
                        EscapeSource& escapes) {
  const std::uint32_t third = head_dim / 8;
  const std::uint8_t* low_row = band + head_dim;
  const std::uint8_t* distances = low_row + std::size_t{kBandTokens} * head_dim;
  // Interleaving bytes does so within 128 bits: these put the quarters into order.
  const __m512i first_half = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0);
  const __m512i second_half = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
  for (std::uint32_t token = 0; token < kBandTokens; ++token) {
    for (std::uint32_t first = 0; first < head_dim; first += kLanes) {
      const Chunk chunk = chunk_at(first, head_dim);
      const std::uint8_t* at = distances + first / 8;
      const __mmask64 bit0 = get_bits(at, chunk.lanes);
      const __mmask64 bit1 = get_bits(at + third, chunk.lanes);
      const __mmask64 bit2 = get_bits(at + 2 * third, chunk.lanes);
      __m512i exponent = _mm512_maskz_loadu_epi8(chunk.bytes(), band + first);
      exponent = _mm512_mask_sub_epi8(exponent, bit0, exponent, _mm512_set1_epi8(1));
      exponent = _mm512_mask_sub_epi8(exponent, bit1, exponent, _mm512_set1_epi8(2));
      exponent = _mm512_mask_sub_epi8(exponent, bit2, exponent, _mm512_set1_epi8(4));
      if (const __mmask64 which = bit0 & bit1 & bit2; which != 0) {
        exponent = get_escapes(exponent, which, escapes);
      }
      const __m512i low = _mm512_maskz_loadu_epi8(chunk.bytes(), low_row + first);
      const __m512i even = _mm512_unpacklo_epi8(low, exponent);
      const __m512i odd = _mm512_unpackhi_epi8(low, exponent);
      const __m512i a = _mm512_permutex2var_epi64(even, first_half, odd);
      const __m512i b = _mm512_permutex2var_epi64(even, second_half, odd);
      std::uint16_t* row = values + first;
      _mm512_mask_storeu_epi16(row, chunk.low_words(), _mm512_shrdi_epi16(a, a, 1));
      if (chunk.lanes > 32) {
        _mm512_mask_storeu_epi16(row + 32, chunk.high_words(), _mm512_shrdi_epi16(b, b, 1));
      }
    }
    low_row += head_dim;
    distances += 3 * third;
    values += head_dim;
  }
}

}  // namespace

const BandCode kAvx512Band{.pack = pack, .unpack = unpack};

}  // namespace kvfs::gpu

#endif
