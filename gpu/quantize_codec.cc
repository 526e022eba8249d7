#include "gpu/quantize_codec.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "gpu/quantize.h"

namespace kvfs::gpu {
namespace {

using Encode = void (*)(const std::byte* values, std::size_t count, std::uint8_t* numbers,
                        float* scale, float* error);
using Decode = void (*)(const std::uint8_t* numbers, std::size_t count, float scale,
                        std::byte* values);

template <typename Engine, typename Stored>
[[gnu::always_inline]] inline void encode(const std::byte* values, std::size_t count,
                                          std::uint8_t* __restrict numbers, float* scale,
                                          float* error) {
  using Bits = typename Engine::Bits;
  const auto* in = reinterpret_cast<const Bits*>(values);
  std::uint32_t largest = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t magnitude = finite_magnitude<Engine>(in[i]);
    largest = magnitude > largest ? magnitude : largest;
  }
  const PlaneScale by = plane_scale<Engine, Stored>(static_cast<Bits>(largest));
  std::uint32_t distance = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const Quantum quantum = Stored::store(Engine::to_float(in[i]) * by.inverse);
    numbers[i] = static_cast<std::uint8_t>(quantum.code);
    distance = quantum.distance > distance ? quantum.distance : distance;
  }
  *scale = by.scale;
  *error = float_of(distance) * by.scale;
}

template <typename Engine, typename Stored>
[[gnu::always_inline]] inline void decode(const std::uint8_t* numbers, std::size_t count,
                                          float scale, std::byte* __restrict values) {
  auto* out = reinterpret_cast<typename Engine::Bits*>(values);
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = Engine::from_float(Stored::load(numbers[i]) * scale);
  }
}

// The same loops, compiled for each kind of CPU.
struct Plain {
  template <typename Engine, typename Stored>
  static void run_encode(const std::byte* values, std::size_t count, std::uint8_t* numbers,
                         float* scale, float* error) {
    encode<Engine, Stored>(values, count, numbers, scale, error);
  }
  template <typename Engine, typename Stored>
  static void run_decode(const std::uint8_t* numbers, std::size_t count, float scale,
                         std::byte* values) {
    decode<Engine, Stored>(numbers, count, scale, values);
  }
};
#if defined(__x86_64__)
struct Avx2 {
  template <typename Engine, typename Stored>
  [[gnu::target("avx2")]] static void run_encode(const std::byte* values, std::size_t count,
                                                 std::uint8_t* numbers, float* scale,
                                                 float* error) {
    encode<Engine, Stored>(values, count, numbers, scale, error);
  }
  template <typename Engine, typename Stored>
  [[gnu::target("avx2")]] static void run_decode(const std::uint8_t* numbers, std::size_t count,
                                                 float scale, std::byte* values) {
    decode<Engine, Stored>(numbers, count, scale, values);
  }
};
#define KVFS_AVX512 [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")]]
struct Avx512 {
  template <typename Engine, typename Stored>
  KVFS_AVX512 static void run_encode(const std::byte* values, std::size_t count,
                                     std::uint8_t* numbers, float* scale, float* error) {
    encode<Engine, Stored>(values, count, numbers, scale, error);
  }
  template <typename Engine, typename Stored>
  KVFS_AVX512 static void run_decode(const std::uint8_t* numbers, std::size_t count, float scale,
                                     std::byte* values) {
    decode<Engine, Stored>(numbers, count, scale, values);
  }
};
#else
using Avx2 = Plain;
using Avx512 = Plain;
#endif

struct Loops {
  Encode encode;
  Decode decode;
};
template <typename Cpu, typename Stored>
Loops loops_for(DType dtype) {
  if (dtype == DType::kF16) {
    return {&Cpu::template run_encode<F16, Stored>, &Cpu::template run_decode<F16, Stored>};
  }
  if (dtype == DType::kF32) {
    return {&Cpu::template run_encode<F32, Stored>, &Cpu::template run_decode<F32, Stored>};
  }
  return {&Cpu::template run_encode<Bf16, Stored>, &Cpu::template run_decode<Bf16, Stored>};
}
template <typename Cpu>
Loops loops_for(Conversion conversion) {
  return conversion.encoding == Encoding::kFp8 ? loops_for<Cpu, Fp8>(conversion.dtype)
                                               : loops_for<Cpu, Int8>(conversion.dtype);
}
Loops loops_for(Conversion conversion, QuantizeCode code) {
  if (code == QuantizeCode::kAvx512) return loops_for<Avx512>(conversion);
  if (code == QuantizeCode::kAvx2) return loops_for<Avx2>(conversion);
  return loops_for<Plain>(conversion);
}

void put_float(std::byte* to, float value) { std::memcpy(to, &value, sizeof(value)); }
float get_float(const std::byte* from) {
  float value = 0;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

}  // namespace

bool has_quantize_code(QuantizeCode code) {
#if defined(__x86_64__)
  if (code == QuantizeCode::kAvx512) {
    return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
           __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0;
  }
  if (code == QuantizeCode::kAvx2) return __builtin_cpu_supports("avx2") != 0;
#endif
  return code == QuantizeCode::kPlain;
}

QuantizeCode best_quantize_code() {
  static const QuantizeCode best = has_quantize_code(QuantizeCode::kAvx512) ? QuantizeCode::kAvx512
                                   : has_quantize_code(QuantizeCode::kAvx2) ? QuantizeCode::kAvx2
                                                                            : QuantizeCode::kPlain;
  return best;
}

void quantize_plane(const QuantizedLayout& layout, Conversion conversion, const std::byte* values,
                    std::uint32_t plane, std::byte* head, QuantizeCode code) {
  std::byte* const numbers = head + layout.numbers_at + std::size_t{plane} * layout.plane_values;
  float scale = 0;
  float error = 0;
  loops_for(conversion, code)
      .encode(values, layout.plane_values, reinterpret_cast<std::uint8_t*>(numbers), &scale,
              &error);
  put_float(head + std::size_t{plane} * sizeof(float), scale);
  put_float(head + layout.errors_at + std::size_t{plane} * sizeof(float), error);
  if (plane + 1 < layout.planes) return;
  // The same block has the same bytes, those that mean nothing included.
  std::memset(head + 2 * layout.errors_at, 0, layout.numbers_at - 2 * layout.errors_at);
  std::byte* const end = numbers + layout.plane_values;
  std::memset(end, 0, static_cast<std::size_t>(head + layout.head_bytes - end));
}

void dequantize_plane(const QuantizedLayout& layout, Conversion conversion, const std::byte* head,
                      std::uint32_t plane, std::byte* values, QuantizeCode code) {
  const std::byte* const numbers =
      head + layout.numbers_at + std::size_t{plane} * layout.plane_values;
  loops_for(conversion, code)
      .decode(reinterpret_cast<const std::uint8_t*>(numbers), layout.plane_values,
              get_float(head + std::size_t{plane} * sizeof(float)), values);
}

void add_errors(const QuantizedLayout& layout, const std::byte* head, QuantizeErrors& errors) {
  for (std::uint32_t plane = 0; plane < layout.planes; ++plane) {
    const float error = get_float(head + layout.errors_at + std::size_t{plane} * sizeof(float));
    if (std::isfinite(error)) {
      errors.largest = std::max(errors.largest, error);
    } else {
      ++errors.saturated_planes;
    }
  }
}

}  // namespace kvfs::gpu
