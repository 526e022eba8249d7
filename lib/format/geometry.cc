#include "lib/format/geometry.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "lib/format/json_text.h"
#include "lib/format/packed_block.h"
#include "lib/format/quantized_block.h"

namespace kvfs {
namespace {

constexpr std::size_t kMaxNameBytes = 255;
constexpr std::size_t kMaxTagBytes = 64;
constexpr std::uint64_t kMaxBlockBytes = std::uint64_t{1} << 30;
constexpr std::string_view kOpaquePrefix = "opaque:";

struct DTypeRow {
  DType dtype;
  std::string_view name;
  std::uint32_t bytes;
  std::array<std::string_view, 3> aliases;
};
constexpr std::array<DTypeRow, 7> kDTypes{{
    {DType::kF32, "F32", 4, {"float32", "float", "fp32"}},
    {DType::kF16, "F16", 2, {"float16", "half", "fp16"}},
    {DType::kBF16, "BF16", 2, {"bfloat16", "bf16", "bf16"}},
    {DType::kF8E4M3, "F8_E4M3", 1, {"float8_e4m3fn", "float8_e4m3", "fp8_e4m3"}},
    {DType::kF8E5M2, "F8_E5M2", 1, {"float8_e5m2", "fp8_e5m2", "f8_e5m2"}},
    {DType::kI8, "I8", 1, {"int8", "i8", "i8"}},
    {DType::kU8, "U8", 1, {"uint8", "u8", "byte"}},
}};
constexpr std::array<std::pair<Encoding, std::string_view>, 4> kEncodings{{
    {Encoding::kRaw, "raw"},
    {Encoding::kPacked, "packed"},
    {Encoding::kFp8, "fp8"},
    {Encoding::kInt8, "int8"},
}};

const DTypeRow& row_of(DType dtype) { return kDTypes.at(static_cast<std::size_t>(dtype)); }

std::string in_quotes(std::string_view text) { return "'" + std::string(text) + "'"; }

bool valid_tag(std::string_view tag) {
  constexpr std::string_view kAllowed =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  return !tag.empty() && tag.size() <= kMaxTagBytes &&
         tag.find_first_not_of(kAllowed) == std::string_view::npos;
}

// block_bytes as a product that cannot wrap; 0 when it does.
std::uint64_t checked_block_bytes(const Geometry& geometry, const Group& group) {
  std::uint64_t bytes = dtype_bytes(geometry.dtype);
  for (const std::uint32_t factor :
       {group.kv_factor, group.layers, group.kv_heads, group.head_dim, geometry.block_tokens}) {
    if (__builtin_mul_overflow(bytes, std::uint64_t{factor}, &bytes)) return 0;
  }
  return bytes;
}

// Why this geometry cannot be stored packed; empty when it can.
std::string why_not_packed(const Geometry& geometry) {
  if (geometry.dtype != DType::kBF16) {
    return "is for the dtype BF16, not " + std::string(dtype_name(geometry.dtype));
  }
  for (const Group& group : geometry.groups) {
    if (packable(geometry.block_tokens, group.head_dim)) continue;
    return "needs block_tokens that are a multiple of " + std::to_string(kBandTokens) +
           " and a head_dim that is a multiple of 8, not " + std::to_string(geometry.block_tokens) +
           " and " + std::to_string(group.head_dim);
  }
  return {};
}

std::string why_not_quantized(const Geometry& geometry) {
  const DType dtype = geometry.dtype;
  if (dtype != DType::kBF16 && dtype != DType::kF16 && dtype != DType::kF32) {
    return "is for the dtypes BF16, F16 and F32, not " + std::string(dtype_name(dtype)) +
           ", whose numbers take a byte already";
  }
  for (const Group& group : geometry.groups) {
    if (quantizable(geometry.block_tokens, group.head_dim)) continue;
    return "needs block_tokens * head_dim to be a multiple of " + std::to_string(kQuantizedVector) +
           ", not " + std::to_string(geometry.block_tokens) + " * " +
           std::to_string(group.head_dim);
  }
  return {};
}

Status validate_encoding(const Geometry& geometry) {
  if (geometry.encoding == Encoding::kRaw) return {};
  const std::string why = geometry.opaque()              ? "needs the layout canonical"
                          : quantized(geometry.encoding) ? why_not_quantized(geometry)
                                                         : why_not_packed(geometry);
  if (why.empty()) return {};
  return fail(Code::kInvalid,
              "encoding " + in_quotes(encoding_name(geometry.encoding)) + " " + why + ": use raw");
}

Status validate_group(const Geometry& geometry, std::size_t index) {
  const Group& group = geometry.groups[index];
  const std::string where = "groups[" + std::to_string(index) + "].";
  for (const auto& [name, value] :
       {std::pair{"layers", group.layers}, std::pair{"kv_heads", group.kv_heads},
        std::pair{"head_dim", group.head_dim}}) {
    if (value == 0) {
      return fail(Code::kInvalid, where + name + " is 0: give the model's number, at least 1");
    }
  }
  if (group.kv_factor != 1 && group.kv_factor != 2) {
    return fail(Code::kInvalid, where + "kv_factor is " + std::to_string(group.kv_factor) +
                                    ": use 2 (keys and values) or 1 (MLA's single latent)");
  }
  const std::uint64_t bytes = checked_block_bytes(geometry, group);
  if (bytes == 0 || bytes > kMaxBlockBytes) {
    return fail(Code::kInvalid, where +
                                    "block_bytes is over the limit of 1 GiB: use fewer "
                                    "block_tokens, or split the layers into groups");
  }
  if (bytes % 8 != 0) {
    return fail(Code::kInvalid, where + "block_bytes is " + std::to_string(bytes) +
                                    ", not a multiple of 8: use more block_tokens");
  }
  return {};
}

}  // namespace

std::string_view dtype_name(DType dtype) { return row_of(dtype).name; }
std::uint32_t dtype_bytes(DType dtype) { return row_of(dtype).bytes; }

Result<DType> dtype_from_name(std::string_view name) {
  std::string_view bare = name;
  if (bare.starts_with("torch.")) bare.remove_prefix(6);
  std::string known;
  for (const DTypeRow& row : kDTypes) {
    if (bare == row.name || std::ranges::find(row.aliases, bare) != row.aliases.end()) {
      return row.dtype;
    }
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  return fail(Code::kInvalid, "dtype " + in_quotes(name) + " is not known: use one of " + known);
}

std::string_view encoding_name(Encoding encoding) {
  return kEncodings.at(static_cast<std::size_t>(encoding)).second;
}

Result<Encoding> encoding_from_name(std::string_view name) {
  for (const auto& [encoding, known] : kEncodings) {
    if (name == known) return encoding;
  }
  return fail(Code::kInvalid,
              "encoding " + in_quotes(name) + " is not known: use raw, packed, fp8 or int8");
}

std::span<const BlockTensor> block_tensors(Encoding encoding) {
  static constexpr std::array kAll{BlockTensor::kNumbers, BlockTensor::kScales,
                                   BlockTensor::kErrors};
  return std::span(kAll).first(quantized(encoding) ? kAll.size() : 1);
}

std::uint64_t Geometry::block_bytes(std::size_t group) const {
  return checked_block_bytes(*this, groups[group]);
}

DType Geometry::shown_dtype() const {
  if (encoding == Encoding::kFp8) return DType::kF8E4M3;
  return encoding == Encoding::kInt8 ? DType::kI8 : dtype;
}

std::uint64_t Geometry::tensor_bytes(BlockTensor tensor, std::size_t group) const {
  if (tensor == BlockTensor::kNumbers) {
    return block_bytes(group) / dtype_bytes(dtype) * dtype_bytes(shown_dtype());
  }
  const Group& g = groups[group];
  return std::uint64_t{g.kv_heads} * g.layers * g.kv_factor * sizeof(float);
}

std::uint64_t Geometry::stored_bytes(std::size_t group) const {
  const Group& g = groups[group];
  const std::uint32_t planes = g.kv_factor * g.layers;
  if (encoding == Encoding::kPacked) {
    return g.kv_heads * packed_layout(planes, block_tokens, g.head_dim).head_bytes;
  }
  if (quantized(encoding)) {
    return g.kv_heads * quantized_layout(planes, block_tokens, g.head_dim).head_bytes;
  }
  return block_bytes(group);
}

std::uint64_t Geometry::slot_bytes(std::size_t group) const {
  return (stored_bytes(group) + kSlotAlignment - 1) / kSlotAlignment * kSlotAlignment;
}

std::uint32_t Geometry::window_blocks(std::size_t group) const {
  const std::uint64_t window = groups[group].window;
  return static_cast<std::uint32_t>((window + block_tokens - 1) / block_tokens);
}

Key Geometry::seed() const {
  // nlohmann::json sorts keys and writes no white space: the same geometry, the same text.
  const std::string text = to_json(*this).dump();
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  return {.lo = hash.low64, .hi = hash.high64};
}

Status validate(const Geometry& geometry) {
  if (geometry.model.empty() || geometry.model.size() > kMaxNameBytes ||
      !is_printable(geometry.model)) {
    return fail(Code::kInvalid,
                "model must be 1 to 255 bytes of printable UTF-8: give the model's name");
  }
  if (geometry.salt.size() > kMaxNameBytes || !is_printable(geometry.salt)) {
    return fail(Code::kInvalid,
                "salt must be at most 255 bytes of printable UTF-8: encode binary salts as hex");
  }
  if (geometry.block_tokens == 0 || geometry.block_tokens > kMaxBlockTokens) {
    return fail(Code::kInvalid, "block_tokens is " + std::to_string(geometry.block_tokens) +
                                    ": use 1 to " + std::to_string(kMaxBlockTokens));
  }
  const std::string_view layout = geometry.layout;
  if (geometry.opaque() &&
      !(layout.starts_with(kOpaquePrefix) && valid_tag(layout.substr(kOpaquePrefix.size())))) {
    return fail(Code::kInvalid, "layout " + in_quotes(layout) +
                                    " is not known: use canonical, or opaque:TAG with a TAG of 1 "
                                    "to 64 letters, digits, '.', '_' or '-'");
  }
  if (geometry.groups.empty() || geometry.groups.size() > kMaxGroups) {
    return fail(Code::kInvalid, "groups has " + std::to_string(geometry.groups.size()) +
                                    " entries: give 1 to " + std::to_string(kMaxGroups));
  }
  for (std::size_t g = 0; g < geometry.groups.size(); ++g) {
    if (Status status = validate_group(geometry, g); !status) return status;
  }
  return validate_encoding(geometry);
}

std::string describe_difference(const Geometry& wanted, const Geometry& has) {
  const auto say = [](const std::string& what, const auto& left, const auto& right) {
    return what + " is " + std::string(left) + ", the namespace has " + std::string(right);
  };
  const auto number = [](std::uint64_t value) { return std::to_string(value); };
  if (wanted.model != has.model) return say("model", in_quotes(wanted.model), in_quotes(has.model));
  if (wanted.dtype != has.dtype) {
    return say("dtype", dtype_name(wanted.dtype), dtype_name(has.dtype));
  }
  if (wanted.block_tokens != has.block_tokens) {
    return say("block_tokens", number(wanted.block_tokens), number(has.block_tokens));
  }
  // A salt keeps tenants apart: it is not for others' eyes.
  if (wanted.salt != has.salt) return "salt differs from the namespace's";
  if (wanted.layout != has.layout)
    return say("layout", in_quotes(wanted.layout), in_quotes(has.layout));
  if (wanted.encoding != has.encoding) {
    return say("encoding", encoding_name(wanted.encoding), encoding_name(has.encoding));
  }
  if (wanted.groups.size() != has.groups.size()) {
    return say("the number of groups", number(wanted.groups.size()), number(has.groups.size()));
  }
  for (std::size_t g = 0; g < has.groups.size(); ++g) {
    const Group& w = wanted.groups[g];
    const Group& h = has.groups[g];
    const std::string where = has.groups.size() == 1 ? "" : "groups[" + number(g) + "].";
    for (const auto& [name, left, right] :
         {std::tuple{"layers", w.layers, h.layers}, std::tuple{"kv_heads", w.kv_heads, h.kv_heads},
          std::tuple{"head_dim", w.head_dim, h.head_dim},
          std::tuple{"kv_factor", w.kv_factor, h.kv_factor},
          std::tuple{"window", w.window, h.window}}) {
      if (left != right) return say(where + name, number(left), number(right));
    }
  }
  return {};
}

}  // namespace kvfs
