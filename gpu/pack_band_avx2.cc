// 32 channels at a time.
#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>

#include "gpu/pack_band.h"
#include "lib/format/packed_block.h"

#define KVFS_AVX2 [[gnu::target("avx2")]]

namespace kvfs::gpu {
namespace {

constexpr std::uint32_t kLanes = 32;

std::uint32_t lanes_at(std::uint32_t first, std::uint32_t head_dim) {
  return std::min(kLanes, head_dim - first);
}

// `bytes` of a vector, of constant number where they mostly are 32.
KVFS_AVX2 __m256i get(const void* from, std::size_t bytes) {
  if (bytes >= sizeof(__m256i)) return _mm256_loadu_si256(static_cast<const __m256i*>(from));
  __m256i value = _mm256_setzero_si256();
  std::memcpy(&value, from, bytes);
  return value;
}
KVFS_AVX2 void put(void* to, __m256i value, std::size_t bytes) {
  if (bytes >= sizeof(__m256i)) return _mm256_storeu_si256(static_cast<__m256i*>(to), value);
  std::memcpy(to, &value, bytes);
}

std::uint32_t get_bits(const std::uint8_t* from, std::uint32_t lanes) {
  std::uint32_t bits = 0;
  if (lanes == kLanes) {
    std::memcpy(&bits, from, sizeof(bits));
  } else {
    std::memcpy(&bits, from, lanes / 8);
  }
  return bits;
}
KVFS_AVX2 void put_bits(std::uint8_t* to, __m256i bytes_with_top_bit, std::uint32_t lanes) {
  const auto bits = static_cast<std::uint32_t>(_mm256_movemask_epi8(bytes_with_top_bit));
  if (lanes == kLanes) {
    std::memcpy(to, &bits, sizeof(bits));
  } else {
    std::memcpy(to, &bits, lanes / 8);
  }
}
// A byte of ones for each bit that is set.
KVFS_AVX2 __m256i spread(std::uint32_t bits) {
  const __m256i byte_of =
      _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
  const __m256i bit_of = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201ULL));
  const __m256i copies = _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int>(bits)), byte_of);
  return _mm256_cmpeq_epi8(_mm256_and_si256(copies, bit_of), bit_of);
}

// The bytes of two vectors of 16 words, each below 256.
KVFS_AVX2 __m256i narrow(__m256i a, __m256i b) {
  return _mm256_permute4x64_epi64(_mm256_packus_epi16(a, b), 0b11011000);
}
// Exponent byte on top, sign at the bottom; and back.
KVFS_AVX2 __m256i turn(__m256i values) {
  return _mm256_or_si256(_mm256_slli_epi16(values, 1), _mm256_srli_epi16(values, 15));
}
KVFS_AVX2 __m256i turn_back(__m256i turned) {
  return _mm256_or_si256(_mm256_srli_epi16(turned, 1), _mm256_slli_epi16(turned, 15));
}

KVFS_AVX2 void pack_chunk(const std::uint16_t* values, std::uint32_t head_dim, std::uint32_t first,
                          std::uint8_t* band) {
  const std::uint32_t lanes = lanes_at(first, head_dim);
  const std::size_t first_words = std::min(lanes, 16U) * sizeof(std::uint16_t);
  const std::size_t more_words = lanes * sizeof(std::uint16_t) - first_words;
  const __m256i byte = _mm256_set1_epi16(0xff);
  __m256i exponents[kBandTokens];
  __m256i base = _mm256_setzero_si256();
  std::uint8_t* low_row = band + head_dim + first;
  for (std::uint32_t token = 0; token < kBandTokens; ++token, low_row += head_dim) {
    const std::uint16_t* row = values + std::size_t{token} * head_dim + first;
    const __m256i a = turn(get(row, first_words));
    const __m256i b = more_words == 0 ? _mm256_setzero_si256() : turn(get(row + 16, more_words));
    put(low_row, narrow(_mm256_and_si256(a, byte), _mm256_and_si256(b, byte)), lanes);
    exponents[token] = narrow(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8));
    base = _mm256_max_epu8(base, exponents[token]);
  }
  put(band + first, base, lanes);
  const std::uint32_t third = head_dim / 8;
  std::uint8_t* distances = band + (1 + kBandTokens) * std::size_t{head_dim} + first / 8;
  for (std::uint32_t token = 0; token < kBandTokens; ++token, distances += 3 * third) {
    const __m256i distance =
        _mm256_min_epu8(_mm256_sub_epi8(base, exponents[token]), _mm256_set1_epi8(kEscapeCode));
    // A distance has three bits, so shifts by words put bit i of each byte on its top.
    put_bits(distances, _mm256_slli_epi16(distance, 7), lanes);
    put_bits(distances + third, _mm256_slli_epi16(distance, 6), lanes);
    put_bits(distances + 2 * third, _mm256_slli_epi16(distance, 5), lanes);
  }
}

KVFS_AVX2 void pack(const std::uint16_t* values, std::uint32_t head_dim, std::uint8_t* band,
                    EscapeSink& escapes) {
  for (std::uint32_t first = 0; first < head_dim; first += kLanes) {
    pack_chunk(values, head_dim, first, band);
  }
  // Escapes are in the order of tokens: after all channels.
  const std::uint32_t third = head_dim / 8;
  const std::uint8_t* distances = band + (1 + kBandTokens) * std::size_t{head_dim};
  for (std::uint32_t token = 0; token < kBandTokens; ++token, distances += 3 * third) {
    for (std::uint32_t first = 0; first < head_dim; first += kLanes) {
      const std::uint32_t lanes = lanes_at(first, head_dim);
      const std::uint8_t* at = distances + first / 8;
      escapes.put(
          values + std::size_t{token} * head_dim + first,
          get_bits(at, lanes) & get_bits(at + third, lanes) & get_bits(at + 2 * third, lanes));
    }
  }
}

KVFS_AVX2 __m256i get_escapes(__m256i exponents, std::uint32_t which, EscapeSource& escapes) {
  alignas(32) std::uint8_t bytes[kLanes];
  _mm256_store_si256(reinterpret_cast<__m256i*>(bytes), exponents);
  for (; which != 0; which &= which - 1) bytes[std::countr_zero(which)] = escapes.get();
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(bytes));
}

KVFS_AVX2 void unpack(const std::uint8_t* band, std::uint32_t head_dim, std::uint16_t* values,
                      EscapeSource& escapes) {
  const std::uint32_t third = head_dim / 8;
  const std::uint8_t* low_row = band + head_dim;
  const std::uint8_t* distances = low_row + std::size_t{kBandTokens} * head_dim;
  for (std::uint32_t token = 0; token < kBandTokens; ++token) {
    for (std::uint32_t first = 0; first < head_dim; first += kLanes) {
      const std::uint32_t lanes = lanes_at(first, head_dim);
      const std::uint8_t* at = distances + first / 8;
      const std::uint32_t bit0 = get_bits(at, lanes);
      const std::uint32_t bit1 = get_bits(at + third, lanes);
      const std::uint32_t bit2 = get_bits(at + 2 * third, lanes);
      // Ones are -1: adding them subtracts a distance of 1, twice one of 2.
      const __m256i twice = spread(bit1);
      __m256i exponent = _mm256_add_epi8(get(band + first, lanes), spread(bit0));
      exponent = _mm256_add_epi8(exponent, _mm256_add_epi8(twice, twice));
      exponent = _mm256_sub_epi8(exponent, _mm256_and_si256(spread(bit2), _mm256_set1_epi8(4)));
      if (const std::uint32_t which = bit0 & bit1 & bit2; which != 0) {
        exponent = get_escapes(exponent, which, escapes);
      }
      const __m256i low = get(low_row + first, lanes);
      const __m256i even = _mm256_unpacklo_epi8(low, exponent);
      const __m256i odd = _mm256_unpackhi_epi8(low, exponent);
      const std::size_t first_words = std::min(lanes, 16U) * sizeof(std::uint16_t);
      const std::size_t more_words = lanes * sizeof(std::uint16_t) - first_words;
      std::uint16_t* row = values + first;
      put(row, turn_back(_mm256_permute2x128_si256(even, odd, 0x20)), first_words);
      if (more_words != 0) {
        put(row + 16, turn_back(_mm256_permute2x128_si256(even, odd, 0x31)), more_words);
      }
    }
    low_row += head_dim;
    distances += 3 * third;
    values += head_dim;
  }
}

}  // namespace

const BandCode kAvx2Band{.pack = pack, .unpack = unpack};

}  // namespace kvfs::gpu

#endif
