// Quantizing against the definition of its numbers, worked out another way, and every kind of CPU
// code against each other.
#include "gpu/quantize_codec.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "gpu/quantize.h"

namespace kvfs::gpu::test {
namespace {

using Bytes = std::vector<std::byte>;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

// F8_E4M3 by its definition: 4 bits of exponent with a bias of 7, 3 of mantissa, no infinities.
float e4m3(unsigned code) {
  const unsigned exponent = code >> 3 & 15U;
  const unsigned mantissa = code & 7U;
  const float sign = (code & 0x80U) != 0 ? -1.0F : 1.0F;
  if (exponent == 15 && mantissa == 7) return kNan;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), -9);
  return sign * std::ldexp(static_cast<float>(8 + mantissa), static_cast<int>(exponent) - 10);
}

// The nearest of all numbers; of two as near the even one.
unsigned nearest_e4m3(float value) {
  if (std::isnan(value)) return 0x7fU;
  const unsigned sign = std::signbit(value) ? 0x80U : 0;
  const double magnitude = std::min(std::fabs(double{value}), 448.0);
  unsigned best = 0;
  for (unsigned code = 1; code < 0x7f; ++code) {
    const double here = std::fabs(double{e4m3(code)} - magnitude);
    const double there = std::fabs(double{e4m3(best)} - magnitude);
    if (here < there || (here == there && code % 2 == 0)) best = code;
  }
  return best | sign;
}

// F16 by its definition: 5 bits of exponent with a bias of 15, 10 of mantissa.
float f16(unsigned code) {
  const unsigned exponent = code >> 10 & 31U;
  const unsigned mantissa = code & 0x3ffU;
  const float sign = (code & 0x8000U) != 0 ? -1.0F : 1.0F;
  if (exponent == 31) return mantissa == 0 ? sign * kInf : kNan;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), -24);
  return sign * std::ldexp(static_cast<float>(1024 + mantissa), static_cast<int>(exponent) - 25);
}

// The nearest to what is a number; from half a step above the largest finite one on, infinity.
unsigned nearest_f16(float value) {
  const unsigned sign = std::signbit(value) ? 0x8000U : 0;
  const double magnitude = std::fabs(double{value});
  if (magnitude >= 65520) return 0x7c00U | sign;
  const int exponent = magnitude == 0 ? -14 : std::max(std::ilogb(magnitude), -14);
  const double steps = std::nearbyint(std::ldexp(magnitude, 10 - exponent));
  return ((static_cast<unsigned>(exponent + 14) << 10) + static_cast<unsigned>(steps)) | sign;
}

unsigned nearest_int8(float value) {
  if (std::isnan(value)) return 0x80;
  const double whole = std::nearbyint(std::clamp(double{value}, -127.0, 127.0));
  return static_cast<unsigned>(static_cast<int>(whole)) & 0xffU;
}

float stored_number(Encoding encoding, unsigned code) {
  if (encoding == Encoding::kFp8) return e4m3(code);
  return code == 0x80 ? kNan : static_cast<float>(static_cast<std::int8_t>(code));
}
unsigned nearest(Encoding encoding, float value) {
  return encoding == Encoding::kFp8 ? nearest_e4m3(value) : nearest_int8(value);
}
float most_of(Encoding encoding) { return encoding == Encoding::kFp8 ? 448.0F : 127.0F; }

std::size_t width(DType dtype) { return dtype_bytes(dtype); }

// An engine's number nearest to `value`, and what it is worth.
void put(DType dtype, float value, std::byte* to) {
  if (dtype == DType::kF32) {
    std::memcpy(to, &value, 4);
  } else if (dtype == DType::kF16) {
    const std::uint16_t bits = F16::from_float(value);
    std::memcpy(to, &bits, 2);
  } else {
    const std::uint16_t bits = Bf16::from_float(value);
    std::memcpy(to, &bits, 2);
  }
}
float get(DType dtype, const std::byte* from) {
  float value = 0;
  if (dtype == DType::kF32) {
    std::memcpy(&value, from, 4);
  } else if (dtype == DType::kF16) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, from, 2);
    value = F16::to_float(bits);
  } else {
    std::uint32_t bits = 0;
    std::memcpy(reinterpret_cast<std::byte*>(&bits) + 2, from, 2);
    std::memcpy(&value, &bits, 4);
  }
  return value;
}

constexpr QuantizedLayout kLayout = quantized_layout(3, 5, 56);  // planes of 280 values: no power

struct Case {
  Conversion conversion;
  QuantizeCode code;
};
std::vector<Case> cases() {
  std::vector<Case> made;
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
    for (const Encoding encoding : {Encoding::kFp8, Encoding::kInt8}) {
      for (const QuantizeCode code :
           {QuantizeCode::kPlain, QuantizeCode::kAvx2, QuantizeCode::kAvx512}) {
        if (has_quantize_code(code)) made.push_back({{dtype, encoding}, code});
      }
    }
  }
  return made;
}
std::string name_of(const Case& c) {
  return std::string(dtype_name(c.conversion.dtype)) + " to " +
         std::string(encoding_name(c.conversion.encoding)) + ", code " +
         std::to_string(static_cast<int>(c.code));
}

// Values of all magnitudes, among them those that are special.
std::vector<float> some_values(unsigned seed, float spread) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(kLayout.plane_values);
  for (float& value : values) {
    value = normal(random) * spread * std::exp2(static_cast<float>(random() % 12) - 8);
  }
  values[7] = 0.0F;
  values[8] = -0.0F;
  values[9] = 1e-40F;
  return values;
}

Bytes engine_bytes(DType dtype, const std::vector<float>& values) {
  Bytes bytes(values.size() * width(dtype));
  for (std::size_t i = 0; i < values.size(); ++i) put(dtype, values[i], &bytes[i * width(dtype)]);
  return bytes;
}

float scale_at(const Bytes& head, std::uint32_t plane) {
  float scale = 0;
  std::memcpy(&scale, &head[plane * sizeof(scale)], sizeof(scale));
  return scale;
}
float error_at(const Bytes& head, std::uint32_t plane) {
  float error = 0;
  std::memcpy(&error, &head[kLayout.errors_at + plane * sizeof(error)], sizeof(error));
  return error;
}
unsigned number_at(const Bytes& head, std::uint32_t plane, std::size_t i) {
  return std::to_integer<unsigned>(
      head[kLayout.numbers_at + plane * std::size_t{kLayout.plane_values} + i]);
}

TEST(QuantizeCodec, EveryNumberIsTheNearest) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(name_of(c));
    const auto [dtype, encoding] = c.conversion;
    for (const float spread : {1.0F, 1e-3F, 300.0F}) {
      const Bytes values = engine_bytes(dtype, some_values(11, spread));
      Bytes head(kLayout.head_bytes, std::byte{0xa5});
      quantize_plane(kLayout, c.conversion, values.data(), 1, head.data(), c.code);
      float amax = std::ldexp(1.0F, -100);
      for (std::size_t i = 0; i < kLayout.plane_values; ++i) {
        amax = std::max(amax, std::fabs(get(dtype, &values[i * width(dtype)])));
      }
      const float inverse = most_of(encoding) / amax;
      EXPECT_EQ(scale_at(head, 1), amax / most_of(encoding));
      float distance = 0;
      for (std::size_t i = 0; i < kLayout.plane_values; ++i) {
        const float scaled = get(dtype, &values[i * width(dtype)]) * inverse;
        const unsigned code = number_at(head, 1, i);
        ASSERT_EQ(code, nearest(encoding, scaled)) << scaled << " at " << i;
        distance = std::max(distance, std::fabs(scaled - stored_number(encoding, code)));
      }
      EXPECT_EQ(error_at(head, 1), distance * scale_at(head, 1));
      EXPECT_LE(distance, encoding == Encoding::kFp8 ? 16.0F : 0.5F);
    }
  }
}

TEST(QuantizeCodec, EveryCodeOfEveryScaleIsDecoded) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(name_of(c));
    const auto [dtype, encoding] = c.conversion;
    constexpr QuantizedLayout layout = quantized_layout(1, 1, 256);
    for (const float scale : {1.0F, 0.0123F, 3e-5F, 140.0F}) {
      Bytes head(layout.head_bytes);
      std::memcpy(head.data(), &scale, sizeof(scale));
      for (std::size_t i = 0; i < 256; ++i) head[layout.numbers_at + i] = static_cast<std::byte>(i);
      Bytes values(256 * width(dtype));
      dequantize_plane(layout, c.conversion, head.data(), 0, values.data(), c.code);
      for (unsigned i = 0; i < 256; ++i) {
        const float wanted = stored_number(encoding, i) * scale;
        const float found = get(dtype, &values[i * width(dtype)]);
        if (std::isnan(wanted)) {
          ASSERT_TRUE(std::isnan(found)) << i;
          continue;
        }
        Bytes rounded(width(dtype));
        put(dtype, wanted, rounded.data());
        ASSERT_EQ(found, get(dtype, rounded.data())) << i << " times " << scale;
      }
    }
  }
}

TEST(QuantizeCodec, WhatIsNoNumberStaysSoAndInfinitiesSaturate) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(name_of(c));
    const DType dtype = c.conversion.dtype;
    std::vector<float> some(kLayout.plane_values, 0.5F);
    some[3] = kNan;
    some[4] = -2.0F;
    const Bytes with_nan = engine_bytes(dtype, some);
    some[5] = kInf;
    some[6] = -kInf;
    const Bytes with_infinities = engine_bytes(dtype, some);
    Bytes head(kLayout.head_bytes);
    quantize_plane(kLayout, c.conversion, with_nan.data(), 0, head.data(), c.code);
    quantize_plane(kLayout, c.conversion, with_infinities.data(), 1, head.data(), c.code);
    quantize_plane(kLayout, c.conversion, with_nan.data(), 2, head.data(), c.code);
    Bytes values(with_nan.size());
    dequantize_plane(kLayout, c.conversion, head.data(), 1, values.data(), c.code);
    const auto loaded = [&](std::size_t i) { return get(dtype, &values[i * width(dtype)]); };
    EXPECT_TRUE(std::isnan(loaded(3)));
    EXPECT_EQ(loaded(4), -2.0F);
    EXPECT_EQ(loaded(5), 2.0F);
    EXPECT_EQ(loaded(6), -2.0F);
    EXPECT_NEAR(loaded(0), 0.5F, 0.5F / 16);
    QuantizeErrors errors;
    add_errors(kLayout, head.data(), errors);
    EXPECT_EQ(errors.saturated_planes, 1U);
    EXPECT_LE(errors.largest, 2.0F / 28);
    EXPECT_EQ(errors.largest, error_at(head, 0));
  }
}

TEST(QuantizeCodec, NothingButZerosAndHardlyMore) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(name_of(c));
    const auto [dtype, encoding] = c.conversion;
    for (const float value : {0.0F, 1e-38F, -1e-44F}) {
      const Bytes values = engine_bytes(dtype, std::vector<float>(kLayout.plane_values, value));
      Bytes head(kLayout.head_bytes);
      quantize_plane(kLayout, c.conversion, values.data(), 0, head.data(), c.code);
      EXPECT_GT(scale_at(head, 0), 0);
      EXPECT_LE(error_at(head, 0), 1e-37F);
      Bytes loaded(values.size());
      dequantize_plane(kLayout, c.conversion, head.data(), 0, loaded.data(), c.code);
      EXPECT_LE(std::fabs(get(dtype, loaded.data())), 1e-37F);
    }
  }
}

TEST(QuantizeCodec, AllCodeMakesTheSameBytes) {
  std::mt19937 random(5);
  for (const Case& c : cases()) {
    SCOPED_TRACE(name_of(c));
    for (int round = 0; round < 20; ++round) {
      Bytes values(kLayout.plane_values * width(c.conversion.dtype));
      for (std::byte& byte : values) byte = static_cast<std::byte>(random());
      Bytes wanted(kLayout.head_bytes, std::byte{1});
      Bytes found(kLayout.head_bytes, std::byte{2});
      for (std::uint32_t plane = 0; plane < kLayout.planes; ++plane) {
        quantize_plane(kLayout, c.conversion, values.data(), plane, wanted.data(),
                       QuantizeCode::kPlain);
        quantize_plane(kLayout, c.conversion, values.data(), plane, found.data(), c.code);
      }
      ASSERT_TRUE(wanted == found);
    }
  }
}

TEST(QuantizeCodec, ArbitraryBytesStayWithinTheirPlane) {
  std::mt19937 random(6);
  for (const Case& c : cases()) {
    SCOPED_TRACE(name_of(c));
    Bytes head(kLayout.head_bytes);
    for (std::byte& byte : head) byte = static_cast<std::byte>(random());
    const std::size_t plane_bytes = kLayout.plane_values * width(c.conversion.dtype);
    constexpr std::size_t kAround = 64;
    Bytes memory(plane_bytes + 2 * kAround, std::byte{0x5a});
    dequantize_plane(kLayout, c.conversion, head.data(), 2, memory.data() + kAround, c.code);
    for (std::size_t i = 0; i < kAround; ++i) {
      ASSERT_EQ(memory[i], std::byte{0x5a});
      ASSERT_EQ(memory[memory.size() - 1 - i], std::byte{0x5a});
    }
    QuantizeErrors errors;
    add_errors(kLayout, head.data(), errors);
  }
}

// All 65536 halves, and floats around every one of them.
TEST(QuantizeCodec, HalvesAreConvertedAsTheyAreDefined) {
  for (unsigned code = 0; code < 0x10000; ++code) {
    const float wanted = f16(code);
    const float found = F16::to_float(static_cast<std::uint16_t>(code));
    if (std::isnan(wanted)) {
      ASSERT_TRUE(std::isnan(found)) << code;
      continue;
    }
    ASSERT_EQ(bits_of(found), bits_of(wanted)) << code;
    for (const int step : {-4096, -4095, -1, 0, 1, 4095, 4096, 4097}) {
      const float near = float_of(bits_of(wanted) + static_cast<std::uint32_t>(step));
      if (std::isnan(near)) continue;
      ASSERT_EQ(F16::from_float(near), nearest_f16(near)) << near;
    }
  }
}

}  // namespace
}  // namespace kvfs::gpu::test
