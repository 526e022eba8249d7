// Quantizing on the CPU (lib/format/quantized_block.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "lib/format/geometry.h"
#include "lib/format/quantized_block.h"

namespace kvfs::gpu {

// What a CPU can do; each gives the same bytes.
enum class QuantizeCode : std::uint8_t { kPlain, kAvx2, kAvx512 };
bool has_quantize_code(QuantizeCode code);
QuantizeCode best_quantize_code();

// What is converted: an engine's BF16, F16 or F32 to kFp8 or kInt8.
struct Conversion {
  DType dtype;
  Encoding encoding;
};

// Writes one plane of a head: its scale, its error and its numbers; with the last plane also the
// bytes that mean nothing. `values` [tokens][head_dim], aligned to their size.
void quantize_plane(const QuantizedLayout& layout, Conversion conversion, const std::byte* values,
                    std::uint32_t plane, std::byte* head, QuantizeCode code = best_quantize_code());

// Writes [tokens][head_dim] and nothing else, whatever the bytes of `head`.
void dequantize_plane(const QuantizedLayout& layout, Conversion conversion, const std::byte* head,
                      std::uint32_t plane, std::byte* values,
                      QuantizeCode code = best_quantize_code());

// What quantizing cost the numbers of some planes.
struct QuantizeErrors {
  float largest = 0;                   // distance from an engine's number, where none saturated
  std::uint64_t saturated_planes = 0;  // with infinities that became the largest number
};
void add_errors(const QuantizedLayout& layout, const std::byte* head, QuantizeErrors& errors);

}  // namespace kvfs::gpu
