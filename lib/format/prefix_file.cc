#include "lib/format/prefix_file.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>

namespace kvfs {
namespace {

using nlohmann::json;

constexpr std::uint64_t kDataAlignment = 4096;
constexpr std::uint64_t kMaxHeaderBytes = 1 << 20;
constexpr std::size_t kLengthBytes = 8;
constexpr std::string_view kFormatName = "kvfs.prefix.v1";

std::uint64_t stored_blocks(const Geometry& geometry, std::size_t group, std::uint32_t blocks) {
  const std::uint32_t window = geometry.window_blocks(group);
  return window == 0 ? blocks : std::min(blocks, window);
}

// "kv" for a geometry of one group, "kv.0", "kv.1", ... for several.
std::string tensor_name(const Geometry& geometry, const char* base, std::size_t group) {
  return geometry.groups.size() == 1 ? base : std::string(base) + "." + std::to_string(group);
}

// The JSON text of the header, tensors in the order of their bytes.
class HeaderText {
 public:
  void begin_metadata() { text_ += "{\"__metadata__\":{"; }
  void metadata(std::string_view name, const std::string& value) {
    text_ += metadata_seen_ ? "," : "";
    metadata_seen_ = true;
    text_ += "\"" + std::string(name) + "\":" + json(value).dump();
  }
  void end_metadata() { text_ += "}"; }
  void tensor(const std::string& name, std::string_view dtype,
              std::initializer_list<std::uint64_t> shape, std::uint64_t bytes) {
    text_ += ",\"" + name + "\":{\"dtype\":\"" + std::string(dtype) + "\",\"shape\":[";
    const char* comma = "";
    for (const std::uint64_t extent : shape) {
      text_ += comma + std::to_string(extent);
      comma = ",";
    }
    text_ += "],\"data_offsets\":[" + std::to_string(offset_) + ",";
    offset_ += bytes;
    text_ += std::to_string(offset_) + "]}";
  }
  std::string finish() {
    text_ += "}";
    const std::size_t total = kLengthBytes + text_.size();
    text_.append((kDataAlignment - total % kDataAlignment) % kDataAlignment, ' ');
    const std::uint64_t length = text_.size();
    std::string header(kLengthBytes, '\0');
    std::memcpy(header.data(), &length, kLengthBytes);
    return header + text_;
  }

 private:
  std::string text_;
  std::uint64_t offset_ = 0;
  bool metadata_seen_ = false;
};

// Where data starts. Most headers fit into one page however large their numbers are: then it need
// not be written out to be measured (a stat of every file of a directory would pay for it).
std::uint64_t header_bytes(const Geometry& geometry, std::uint32_t blocks) {
  // Names and numbers at their longest; a quoted character of a string takes up to 4 bytes, as the
  // geometry is JSON text within JSON.
  constexpr std::uint64_t kFixedBytes = 700;
  const std::uint64_t group_bytes = quantized(geometry.encoding) ? 800 : 500;
  const std::uint64_t most = kFixedBytes + group_bytes * geometry.groups.size() +
                             4 * (geometry.model.size() + geometry.salt.size()) +
                             geometry.layout.size();
  if (most <= kDataAlignment) return kDataAlignment;
  return prefix_header(geometry, blocks, Key{}).size();  // the key's value does not change it
}

std::string position(std::size_t offset, std::string_view expected) {
  // Names the place by the JSON around it, as far as it is text.
  const std::size_t begin = offset < 24 ? kLengthBytes : std::max(kLengthBytes, offset - 16);
  return "byte " + std::to_string(offset) + " of the header (expected there: `" +
         std::string(expected.substr(begin, 40)) + "`)";
}

Result<std::string> metadata_text(const json& metadata, const char* name) {
  const auto found = metadata.find(name);
  if (found == metadata.end() || !found->is_string()) {
    return fail(Code::kInvalid, "__metadata__ of the file has no text '" + std::string(name) +
                                    "': only files copied out of a kvfs mount can be imported");
  }
  return found->get<std::string>();
}

Result<json> parse_metadata(std::string_view text) {
  json header = json::parse(text, nullptr, false);
  if (header.is_discarded() || !header.is_object()) {
    return fail(Code::kInvalid,
                "the header is not a safetensors JSON object: the file is damaged, copy it again");
  }
  const auto found = header.find("__metadata__");
  if (found == header.end() || !found->is_object()) {
    return fail(Code::kInvalid,
                "the safetensors header has no __metadata__ object: only files copied out of a "
                "kvfs mount can be imported");
  }
  return json(std::move(*found));  // a copy recurses as deep as whoever wrote it nested
}

Status check_format(const json& metadata) {
  Result<std::string> format = metadata_text(metadata, "format");
  if (!format) return pass(std::move(format));
  if (*format == kFormatName) return {};
  return fail(Code::kMismatch, "the file's format is '" + *format + "', this kvfs reads '" +
                                   std::string(kFormatName) +
                                   "': export it again with a matching version");
}

Status check_geometry(const json& metadata, const Geometry& geometry) {
  Result<std::string> text = metadata_text(metadata, "geometry");
  if (!text) return pass(std::move(text));
  const json parsed = json::parse(*text, nullptr, false);
  if (parsed.is_discarded()) {
    return fail(Code::kInvalid,
                "the geometry in the file's metadata is not JSON: the file is damaged, copy it "
                "again");
  }
  const Result<Geometry> found = geometry_from_json(parsed);
  if (!found) {
    return fail(Code::kInvalid, "the geometry in the file's metadata: " + found.error().message);
  }
  const std::string difference = describe_difference(*found, geometry);
  if (difference.empty()) return {};
  return fail(Code::kMismatch,
              "the file's " + difference + ": copy it into a namespace with the file's geometry");
}

Result<std::uint32_t> parse_blocks(const json& metadata) {
  Result<std::string> text = metadata_text(metadata, "blocks");
  if (!text) return pass(std::move(text));
  std::uint32_t blocks = 0;
  const char* end = text->data() + text->size();
  const auto [stop, error] = std::from_chars(text->data(), end, blocks);
  if (error != std::errc{} || stop != end || blocks == 0 || blocks > kMaxPrefixBlocks) {
    return fail(Code::kInvalid,
                "the metadata's blocks is '" + *text + "', not a number from 1 to " +
                    std::to_string(kMaxPrefixBlocks) + ": the file is damaged, copy it again");
  }
  return blocks;
}

Result<Key> parse_key(const json& metadata) {
  Result<std::string> text = metadata_text(metadata, "key");
  if (!text) return pass(std::move(text));
  const std::optional<Key> key = key_from_hex(*text);
  if (!key) {
    return fail(Code::kInvalid, "the metadata's key is '" + *text +
                                    "', not 32 lower-case hex digits: the file is damaged, copy "
                                    "it again");
  }
  return *key;
}

Status check_size(std::uint64_t file_bytes, const PrefixLayout& layout) {
  if (file_bytes == layout.file_bytes) return {};
  const bool truncated = file_bytes < layout.file_bytes;
  return fail(Code::kInvalid, std::string("the file is ") + (truncated ? "truncated" : "padded") +
                                  ": it has " + std::to_string(file_bytes) +
                                  " bytes, a prefix of " + std::to_string(layout.blocks) +
                                  " blocks has " + std::to_string(layout.file_bytes) +
                                  ": copy it again");
}

Status check_bytes(std::string_view found, const std::string& expected) {
  if (found == expected) return {};
  const auto differ = std::mismatch(expected.begin(), expected.end(), found.begin(), found.end());
  const auto offset = static_cast<std::size_t>(differ.first - expected.begin());
  return fail(Code::kInvalid, "the header differs from what kvfs writes at " +
                                  position(offset, expected) + ": copy the file again");
}

}  // namespace

PrefixLayout prefix_layout(const Geometry& geometry, std::uint32_t blocks) {
  PrefixLayout layout;
  layout.blocks = blocks;
  layout.groups = static_cast<std::uint32_t>(geometry.groups.size());
  layout.header_bytes = header_bytes(geometry, blocks);
  std::uint64_t offset = layout.header_bytes;
  for (const BlockTensor tensor : block_tensors(geometry.encoding)) {
    for (std::size_t g = 0; g < geometry.groups.size(); ++g) {
      const std::uint64_t stored = stored_blocks(geometry, g, blocks);
      layout.first_block[g] = blocks - static_cast<std::uint32_t>(stored);
      auto& offsets = tensor == BlockTensor::kNumbers  ? layout.kv
                      : tensor == BlockTensor::kScales ? layout.scales
                                                       : layout.errors;
      offsets[g] = offset;
      offset += stored * geometry.tensor_bytes(tensor, g);
    }
  }
  for (std::size_t g = 0; g < geometry.groups.size(); ++g) {
    layout.checksums[g] = offset;
    offset += stored_blocks(geometry, g, blocks) * sizeof(std::uint64_t);
  }
  layout.extras = offset;
  layout.tokens = layout.extras + std::uint64_t{blocks} * sizeof(Extra);
  layout.file_bytes = layout.tokens + std::uint64_t{blocks} * geometry.block_tokens * sizeof(Token);
  return layout;
}

std::string prefix_header(const Geometry& geometry, std::uint32_t blocks, const Key& key) {
  HeaderText header;
  header.begin_metadata();
  header.metadata("blocks", std::to_string(blocks));
  header.metadata("format", std::string(kFormatName));
  header.metadata("geometry", to_json(geometry).dump());
  header.metadata("key", to_hex(key));
  header.end_metadata();
  // Numbers whose order in a block kvfs does not know are bytes to a reader.
  const bool bytes_only = geometry.opaque();
  for (std::size_t g = 0; g < geometry.groups.size(); ++g) {
    const Group& group = geometry.groups[g];
    const std::uint64_t stored = stored_blocks(geometry, g, blocks);
    const std::uint64_t block_bytes = geometry.tensor_bytes(BlockTensor::kNumbers, g);
    const std::string name = tensor_name(geometry, "kv", g);
    if (bytes_only) {
      header.tensor(name, dtype_name(DType::kU8), {stored, block_bytes}, stored * block_bytes);
    } else {
      header.tensor(name, dtype_name(geometry.shown_dtype()),
                    {stored, group.kv_heads, group.layers, group.kv_factor, geometry.block_tokens,
                     group.head_dim},
                    stored * block_bytes);
    }
  }
  for (const BlockTensor tensor : block_tensors(geometry.encoding).subspan(1)) {
    for (std::size_t g = 0; g < geometry.groups.size(); ++g) {
      const Group& group = geometry.groups[g];
      const std::uint64_t stored = stored_blocks(geometry, g, blocks);
      const char* const name = tensor == BlockTensor::kScales ? "scales" : "errors";
      header.tensor(tensor_name(geometry, name, g), dtype_name(DType::kF32),
                    {stored, group.kv_heads, group.layers, group.kv_factor},
                    stored * geometry.tensor_bytes(tensor, g));
    }
  }
  for (std::size_t g = 0; g < geometry.groups.size(); ++g) {
    const std::uint64_t stored = stored_blocks(geometry, g, blocks);
    header.tensor(tensor_name(geometry, "checksums", g), "U64", {stored}, stored * 8);
  }
  header.tensor("extras", "U64", {blocks, 2}, std::uint64_t{blocks} * sizeof(Extra));
  const std::uint64_t tokens = std::uint64_t{blocks} * geometry.block_tokens;
  header.tensor("tokens", "I32", {tokens}, tokens * sizeof(Token));
  return header.finish();
}

Result<std::uint64_t> prefix_header_bytes(std::span<const std::byte> first8) {
  if (first8.size() < kLengthBytes) {
    return fail(Code::kInvalid, "the file is truncated: it has " + std::to_string(first8.size()) +
                                    " bytes, its header length alone takes 8: copy it again");
  }
  std::uint64_t length = 0;
  std::memcpy(&length, first8.data(), kLengthBytes);
  if (length == 0 || length > kMaxHeaderBytes || (length + kLengthBytes) % kDataAlignment != 0) {
    return fail(Code::kInvalid, "the file's first 8 bytes give a header of " +
                                    std::to_string(length) +
                                    " bytes, a prefix file has 8 less than a multiple of 4096 up "
                                    "to 1 MiB: only files copied out of a kvfs mount can be "
                                    "imported");
  }
  return length + kLengthBytes;
}

Result<PrefixHeader> parse_prefix_header(std::span<const std::byte> head, std::uint64_t file_bytes,
                                         const Geometry& geometry) {
  const Result<std::uint64_t> header_bytes = prefix_header_bytes(
      head.first(std::min({head.size(), kLengthBytes, static_cast<std::size_t>(file_bytes)})));
  if (!header_bytes) return tl::unexpected(header_bytes.error());
  if (file_bytes < *header_bytes || head.size() < *header_bytes) {
    return fail(Code::kInvalid, "the file is truncated: it ends within its header of " +
                                    std::to_string(*header_bytes) + " bytes: copy it again");
  }
  const std::string_view text(reinterpret_cast<const char*>(head.data()), *header_bytes);
  Result<json> metadata = parse_metadata(text.substr(kLengthBytes));
  if (!metadata) return pass(std::move(metadata));
  if (Status status = check_format(*metadata); !status) return pass(std::move(status));
  if (Status status = check_geometry(*metadata, geometry); !status) return pass(std::move(status));
  Result<std::uint32_t> blocks = parse_blocks(*metadata);
  if (!blocks) return pass(std::move(blocks));
  Result<Key> key = parse_key(*metadata);
  if (!key) return pass(std::move(key));

  PrefixHeader header{.blocks = *blocks, .key = *key, .layout = prefix_layout(geometry, *blocks)};
  if (Status status = check_size(file_bytes, header.layout); !status)
    return pass(std::move(status));
  if (Status status = check_bytes(text, prefix_header(geometry, *blocks, *key)); !status) {
    return pass(std::move(status));
  }
  return header;
}

std::string prefix_file_name(const Key& key) { return to_hex(key) + std::string(kPrefixSuffix); }

std::optional<Key> key_from_file_name(std::string_view name) {
  if (!name.ends_with(kPrefixSuffix)) return std::nullopt;
  name.remove_suffix(kPrefixSuffix.size());
  return key_from_hex(name);
}

}  // namespace kvfs
