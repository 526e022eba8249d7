// The arithmetic of the encodings fp8 and int8 (lib/format/quantized_block.h), one number at a
// time: the same code for the CPU's loops, which compilers make vectors of, and for the GPU's
// kernels. It must not be compiled with fused multiplication and addition.
#pragma once

#include <stdint.h>

#if defined(__CUDACC__)
#define KVFS_EVERYWHERE __host__ __device__ __forceinline__
#else
#define KVFS_EVERYWHERE [[gnu::always_inline]] inline
#endif

namespace kvfs::gpu {

KVFS_EVERYWHERE float float_of(uint32_t bits) { return __builtin_bit_cast(float, bits); }
KVFS_EVERYWHERE uint32_t bits_of(float value) { return __builtin_bit_cast(uint32_t, value); }

constexpr uint32_t kF32Sign = 0x80000000U;
constexpr uint32_t kF32Infinity = 0x7f800000U;

// An engine's numbers. Magnitudes are in the order of their bits: those above `kInfinity` are no
// numbers. What is not a number has one form, since devices differ in the sign and the payload that
// arithmetic leaves it.
struct Bf16 {
  using Bits = uint16_t;
  static constexpr uint32_t kInfinity = 0x7f80U, kMagnitude = 0x7fffU;
  KVFS_EVERYWHERE static float to_float(Bits bits) { return float_of(uint32_t{bits} << 16); }
  KVFS_EVERYWHERE static Bits from_float(float value) {
    const uint32_t bits = bits_of(value);
    const uint32_t rounded = (bits + 0x7fffU + (bits >> 16 & 1U)) >> 16;
    return static_cast<Bits>((bits & ~kF32Sign) > kF32Infinity ? 0x7fc0U : rounded);
  }
};

struct F16 {
  using Bits = uint16_t;
  static constexpr uint32_t kInfinity = 0x7c00U, kMagnitude = 0x7fffU;
  KVFS_EVERYWHERE static float to_float(Bits bits) {
    const uint32_t wide = (bits & kMagnitude) << 13;
    const uint32_t exponent = bits & kInfinity;
    const uint32_t normal = wide + (112U << 23);
    // Subnormal numbers: 2^-14 with their bits as its mantissa, without the 2^-14.
    const uint32_t subnormal = bits_of(float_of(wide + (113U << 23)) - float_of(113U << 23));
    const uint32_t special = wide + (224U << 23);
    const uint32_t magnitude = exponent == 0 ? subnormal : exponent == kInfinity ? special : normal;
    return float_of(magnitude | (uint32_t{bits} & 0x8000U) << 16);
  }
  KVFS_EVERYWHERE static Bits from_float(float value) {
    const uint32_t bits = bits_of(value);
    const uint32_t magnitude = bits & ~kF32Sign;
    const uint32_t normal = (magnitude + 0xfffU + (magnitude >> 13 & 1U) - (112U << 23)) >> 13;
    // Below 2^-14 the last bit stands for 2^-24, as in the float 0.5.
    const uint32_t subnormal = bits_of(float_of(magnitude) + 0.5F) - bits_of(0.5F);
    uint32_t half = magnitude < (113U << 23) ? subnormal : normal;
    half = magnitude >= 0x477ff000U ? kInfinity : half;
    half |= bits >> 16 & 0x8000U;
    return static_cast<Bits>(magnitude > kF32Infinity ? 0x7e00U : half);
  }
};

struct F32 {
  using Bits = uint32_t;
  static constexpr uint32_t kInfinity = kF32Infinity, kMagnitude = ~kF32Sign;
  KVFS_EVERYWHERE static float to_float(Bits bits) { return float_of(bits); }
  KVFS_EVERYWHERE static Bits from_float(float value) {
    const uint32_t bits = bits_of(value);
    return (bits & ~kF32Sign) > kF32Infinity ? 0x7fc00000U : bits;
  }
};

// A mask, not a branch: compilers see through it that a maximum of these is a maximum.
KVFS_EVERYWHERE uint32_t only_if(bool condition, uint32_t value) {
  return value & (0U - static_cast<uint32_t>(condition));
}

// The magnitude's bits of a finite number, else 0.
template <typename Engine>
KVFS_EVERYWHERE uint32_t finite_magnitude(typename Engine::Bits bits) {
  const uint32_t magnitude = bits & Engine::kMagnitude;
  return only_if(magnitude < Engine::kInfinity, magnitude);
}

// A number as it is stored, and the bits of its distance from what was to be stored.
struct Quantum {
  uint32_t code, distance;
};

// Numbers of one byte. store(): the nearest one to a value that was divided by the scale, the
// largest one to what lies beyond.
struct Fp8 {
  static constexpr float kMost = 448;
  KVFS_EVERYWHERE static Quantum store(float value) {
    const uint32_t bits = bits_of(value);
    const uint32_t magnitude = bits & ~kF32Sign;
    const uint32_t most = bits_of(kMost);
    const uint32_t within = magnitude < most ? magnitude : most;
    // Adding 2^20 of the number's own binade rounds it to the 3 bits that remain; below 2^-6 to
    // the subnormal numbers, multiples of 2^-9.
    const uint32_t exponent = within & kF32Infinity;
    const uint32_t raised = (exponent < (121U << 23) ? 121U << 23 : exponent) + (20U << 23);
    const float sum = float_of(within) + float_of(raised);
    const float rounded = sum - float_of(raised);
    uint32_t code = bits_of(sum) - raised + (raised >> 20) - (141U << 3);
    const uint32_t distance = bits_of(float_of(magnitude) - rounded) & ~kF32Sign;
    const bool number = magnitude <= kF32Infinity;
    code |= bits >> 24 & 0x80U;
    return {number ? code : 0x7fU, only_if(number, distance)};
  }
  KVFS_EVERYWHERE static float load(uint32_t code) {
    const uint32_t magnitude = code & 0x7fU;
    const uint32_t normal = (magnitude << 20) + (120U << 23);
    const uint32_t subnormal =
        bits_of(float_of((magnitude << 20) + (121U << 23)) - float_of(121U << 23));
    uint32_t bits = magnitude < 8 ? subnormal : normal;
    bits = magnitude == 0x7fU ? 0x7fc00000U : bits;
    return float_of(bits | (code & 0x80U) << 24);
  }
};

struct Int8 {
  static constexpr float kMost = 127;
  KVFS_EVERYWHERE static Quantum store(float value) {
    const uint32_t bits = bits_of(value);
    const uint32_t magnitude = bits & ~kF32Sign;
    const uint32_t most = bits_of(kMost);
    const uint32_t within = magnitude < most ? magnitude : most;
    constexpr float kRound = 8388608;  // 2^23: floats from here on are whole numbers
    const float sum = float_of(within) + kRound;
    const uint32_t whole = bits_of(sum) - bits_of(kRound);
    const uint32_t code = (bits & kF32Sign) != 0 ? 0U - whole : whole;
    const uint32_t distance = bits_of(float_of(magnitude) - (sum - kRound)) & ~kF32Sign;
    const bool number = magnitude <= kF32Infinity;
    return {number ? code & 0xffU : 0x80U, only_if(number, distance)};
  }
  KVFS_EVERYWHERE static float load(uint32_t code) {
    const auto value = static_cast<float>(static_cast<int8_t>(code));
    return code == 0x80U ? float_of(0x7fc00000U) : value;
  }
};

// A plane's scale and what its numbers are multiplied with, by the largest magnitude's bits.
struct PlaneScale {
  float scale, inverse;
};
template <typename Engine, typename Stored>
KVFS_EVERYWHERE PlaneScale plane_scale(typename Engine::Bits largest) {
  const float least = float_of(27U << 23);  // 2^-100
  const float magnitude = Engine::to_float(largest);
  const float amax = magnitude < least ? least : magnitude;
  return {amax / Stored::kMost, Stored::kMost / amax};
}

}  // namespace kvfs::gpu
