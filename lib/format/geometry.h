// Geometry: what a namespace's blocks are made of (design section 2). Fixed at creation.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "lib/format/key.h"
#include "lib/format/result.h"

namespace kvfs {

inline constexpr std::uint32_t kMaxGroups = 16;
inline constexpr std::uint32_t kMaxBlockTokens = 1024;
inline constexpr std::uint64_t kSlotAlignment = 4096;  // O_DIRECT and page mapping

// Names are those of safetensors: F32, F16, BF16, F8_E4M3, F8_E5M2, I8, U8.
enum class DType : std::uint8_t { kF32, kF16, kBF16, kF8E4M3, kF8E5M2, kI8, kU8 };
std::string_view dtype_name(DType dtype);
Result<DType> dtype_from_name(
    std::string_view name);  // also "float32", "bfloat16", "torch.float16", ...
std::uint32_t dtype_bytes(DType dtype);

enum class Encoding : std::uint8_t { kRaw, kPacked, kFp8, kInt8 };
std::string_view encoding_name(Encoding encoding);
// Whether it stores other numbers than the engine's: one byte each, and scales.
constexpr bool quantized(Encoding encoding) {
  return encoding == Encoding::kFp8 || encoding == Encoding::kInt8;
}
Result<Encoding> encoding_from_name(std::string_view name);

// What a prefix file shows of a block: its numbers, those of quantized encodings with scales and
// errors (lib/format/quantized_block.h).
enum class BlockTensor : std::uint8_t { kNumbers, kScales, kErrors };
std::span<const BlockTensor> block_tensors(Encoding encoding);

// Layers that are cached alike.
struct Group {
  std::uint32_t layers = 0;
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;
  std::uint32_t kv_factor = 2;  // 2: K and V; 1: MLA's one latent
  std::uint32_t window = 0;     // tokens of a sliding window; 0 = full attention
  friend bool operator==(const Group&, const Group&) = default;
};

struct Geometry {
  std::string model;  // 1..255 bytes
  DType dtype = DType::kBF16;
  std::uint32_t block_tokens = 16;   // 1..kMaxBlockTokens
  std::string salt;                  // tenant; part of every key; may be empty
  std::string layout = "canonical";  // or "opaque:<tag>"
  Encoding encoding = Encoding::kRaw;
  std::vector<Group> groups;  // 1..kMaxGroups

  friend bool operator==(const Geometry&, const Geometry&) = default;

  [[nodiscard]] bool opaque() const { return layout != "canonical"; }
  // What an engine has of a block:
  // kv_factor * layers * kv_heads * head_dim * block_tokens * sizeof(dtype)
  [[nodiscard]] std::uint64_t block_bytes(std::size_t group) const;
  // What a prefix file shows of it: block_bytes of numbers; quantized, a byte a number, and the
  // other tensors, which are F32.
  [[nodiscard]] DType shown_dtype() const;
  [[nodiscard]] std::uint64_t tensor_bytes(BlockTensor tensor, std::size_t group) const;
  // What is stored of it: block_bytes, or less by the encoding.
  [[nodiscard]] std::uint64_t stored_bytes(std::size_t group) const;
  // stored_bytes rounded up to kSlotAlignment: what a block takes in a slab or segment.
  [[nodiscard]] std::uint64_t slot_bytes(std::size_t group) const;
  // Blocks of a windowed group that a hit needs at its end: ceil(window / block_tokens); 0 = all.
  [[nodiscard]] std::uint32_t window_blocks(std::size_t group) const;
  // Where every key chain starts: XXH3-128 of the canonical JSON.
  [[nodiscard]] Key seed() const;
};

// Every limit above, block_bytes a multiple of 8 and <= 1 GiB, an encoding this build can store.
Status validate(const Geometry& geometry);
// First difference in words ("dtype is F16, the namespace has BF16"); empty when equal.
std::string describe_difference(const Geometry& wanted, const Geometry& has);

// {"model","dtype","block_tokens","salt","layout","encoding","groups":[{"layers","kv_heads","head_dim","kv_factor","window"}]}
// from_json validates, names unknown and missing keys; a single group may be given flat
// ("layers", ... at the top level).
nlohmann::json to_json(const Geometry& geometry);
Result<Geometry> geometry_from_json(const nlohmann::json& json);

}  // namespace kvfs
