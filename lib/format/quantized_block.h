// The encodings `fp8` and `int8`: one byte for each number of an engine's BF16, F16 or F32, and a
// scale for each plane: a layer's K or V of one head, [tokens][head_dim] in the canonical block.
//
//   scale = amax / most           amax: the plane's largest finite magnitude, but at least 2^-100;
//                                 most: 448 (fp8: F8_E4M3), 127 (int8: I8)
//   value = q * scale             q: the nearest to value * (most / amax), ties to even
//
// Scales are F32, not powers of two: those would cost int8 up to half of its steps and save
// nothing, since a decoded number is rounded to the engine's dtype either way. All arithmetic is
// F32 without fused multiplication and addition, so every device makes the same bytes.
//
// An infinity is stored as the largest number of its sign: it saturates. What is not a number stays
// so: 0x7f in F8_E4M3 (0xff is read as one, too), -128 in I8, which no number becomes.
//
// A quantized block is one part of head_bytes for each KV head, in order, so any range of heads is
// one range of bytes. All numbers are little-endian. A head:
//
//   [ scales: f32 * planes ][ errors: f32 * planes ][ 0 to a multiple of 64 ]
//   [ numbers: u8 * planes * plane_values ][ 0 to a multiple of 64 ]
//
// errors[p] is how far the plane's numbers are from the engine's: the largest |value / scale - q|,
// times scale; infinite if an infinity saturated. It is for statistics and for readers: decoding
// does not need it. A prefix file shows numbers, scales and errors as tensors.
//
// Arbitrary bytes decode to some numbers: where values go depends on the layout alone.
#pragma once

#include <cstdint>

namespace kvfs {

constexpr std::uint32_t kQuantizedVector = 8;  // values of a plane are a multiple of it

// What kernels need to know of a head; also the argument of the GPU's.
struct QuantizedLayout {
  std::uint32_t planes = 0;
  std::uint32_t plane_values = 0;  // tokens * head_dim
  std::uint64_t errors_at = 0;     // bytes into a head; scales are at 0
  std::uint64_t numbers_at = 0;
  std::uint64_t head_bytes = 0;
};

constexpr bool quantizable(std::uint32_t tokens, std::uint32_t head_dim) {
  return std::uint64_t{tokens} * head_dim % kQuantizedVector == 0;
}

constexpr QuantizedLayout quantized_layout(std::uint32_t planes, std::uint32_t tokens,
                                           std::uint32_t head_dim) {
  const auto aligned = [](std::uint64_t bytes) { return (bytes + 63) / 64 * 64; };
  QuantizedLayout layout;
  layout.planes = planes;
  layout.plane_values = tokens * head_dim;
  layout.errors_at = std::uint64_t{planes} * sizeof(float);
  layout.numbers_at = aligned(2 * layout.errors_at);
  layout.head_bytes = aligned(layout.numbers_at + std::uint64_t{planes} * layout.plane_values);
  return layout;
}

}  // namespace kvfs
