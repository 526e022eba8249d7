#include "lib/format/prefix_file.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/lib/format/geometries.h"

namespace kvfs {
namespace {

using nlohmann::json;
using test::hybrid_geometry;
using test::llama_geometry;
using test::small_geometry;
using testing::AllOf;
using testing::HasSubstr;

constexpr Key kKey{.lo = 0x1122334455667788ULL, .hi = 0x99aabbccddeeff00ULL};

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

json parsed(const std::string& header) { return json::parse(header.substr(8)); }

Result<PrefixHeader> parse(const std::string& header, std::uint64_t file_bytes,
                           const Geometry& geometry = small_geometry()) {
  return parse_prefix_header(bytes_of(header), file_bytes, geometry);
}

// What the stock safetensors reader checks: a length that fits, metadata of strings only, and
// tensors that cover the data from 0 to the file's end without hole or overlap, each as long as its
// shape and dtype say.
void expect_valid_safetensors(const std::string& header, std::uint64_t file_bytes) {
  std::uint64_t length = 0;
  std::memcpy(&length, header.data(), 8);
  ASSERT_EQ(length + 8, header.size());
  ASSERT_EQ(header[8], '{');
  const json object = parsed(header);
  const std::map<std::string, std::uint64_t> width{{"F32", 4}, {"F16", 2},     {"BF16", 2},
                                                   {"I8", 1},  {"U8", 1},      {"U64", 8},
                                                   {"I32", 4}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};
  std::map<std::uint64_t, std::uint64_t> ranges;  // ordered by where they begin
  for (const auto& [name, tensor] : object.items()) {
    if (name == "__metadata__") {
      for (const auto& [key, value] : tensor.items()) EXPECT_TRUE(value.is_string()) << key;
      continue;
    }
    ASSERT_EQ(tensor.size(), 3U) << name;
    std::uint64_t bytes = width.at(tensor.at("dtype"));
    for (const std::uint64_t extent : tensor.at("shape")) bytes *= extent;
    const std::uint64_t begin = tensor.at("data_offsets").at(0);
    const std::uint64_t end = tensor.at("data_offsets").at(1);
    EXPECT_EQ(end - begin, bytes) << name;
    EXPECT_TRUE(ranges.emplace(begin, end).second) << name;
  }
  std::uint64_t covered = 0;
  for (const auto& [begin, end] : ranges) {
    EXPECT_EQ(begin, covered);
    covered = end;
  }
  EXPECT_EQ(header.size() + covered, file_bytes);
}

TEST(PrefixFile, IsValidSafetensors) {
  Geometry opaque = llama_geometry();
  opaque.layout = "opaque:amx";
  Geometry packed = llama_geometry();
  packed.encoding = Encoding::kPacked;
  Geometry fp8 = llama_geometry();
  fp8.encoding = Encoding::kFp8;
  Geometry int8 = hybrid_geometry();
  int8.encoding = Encoding::kInt8;
  for (const Geometry& geometry :
       {small_geometry(), llama_geometry(), hybrid_geometry(), opaque, packed, fp8, int8}) {
    for (const std::uint32_t blocks : {1U, 2U, 3U, 4U, 9U, 10U, 2048U, kMaxPrefixBlocks}) {
      const std::string header = prefix_header(geometry, blocks, kKey);
      const PrefixLayout layout = prefix_layout(geometry, blocks);
      EXPECT_EQ(layout.header_bytes, header.size());
      EXPECT_EQ(layout.header_bytes % 4096, 0U);
      expect_valid_safetensors(header, layout.file_bytes);
    }
  }
}

TEST(PrefixFile, TheLongestHeadersHaveTheSizeTheLayoutSays) {
  for (const std::size_t groups : {1U, 2U, 3U, 4U, 5U, 6U, 7U, 8U, 16U}) {
    for (const std::size_t characters : {1U, 100U, 255U}) {
      Geometry geometry = hybrid_geometry();
      geometry.model = std::string(characters, '\\');  // the worst to quote
      geometry.salt = std::string(characters - 1, '"');
      geometry.layout = "opaque:" + std::string(64, 't');
      geometry.block_tokens = kMaxBlockTokens;
      geometry.groups.assign(
          groups,
          {.layers = 1U << 19, .kv_heads = 1, .head_dim = 1, .kv_factor = 1, .window = 0xffffffff});
      ASSERT_TRUE(validate(geometry)) << validate(geometry).error().message;
      const std::string header = prefix_header(geometry, kMaxPrefixBlocks, kKey);
      EXPECT_EQ(prefix_layout(geometry, kMaxPrefixBlocks).header_bytes, header.size())
          << groups << " groups, " << characters << " characters";
    }
  }
}

TEST(PrefixFile, NumbersOfAPackedNamespaceAreUnpacked) {
  Geometry packed = llama_geometry();
  packed.encoding = Encoding::kPacked;
  const json raw = parsed(prefix_header(llama_geometry(), 5, kKey));
  EXPECT_EQ(parsed(prefix_header(packed, 5, kKey)).at("kv"), raw.at("kv"));
  EXPECT_EQ(prefix_layout(packed, 5).file_bytes, prefix_layout(llama_geometry(), 5).file_bytes);
}

TEST(PrefixFile, AQuantizedNamespaceShowsItsNumbersAndScales) {
  Geometry geometry = llama_geometry();
  for (const auto& [encoding, dtype] :
       {std::pair{Encoding::kFp8, "F8_E4M3"}, std::pair{Encoding::kInt8, "I8"}}) {
    geometry.encoding = encoding;
    const json object = parsed(prefix_header(geometry, 5, kKey));
    EXPECT_EQ(object.at("kv").at("dtype"), dtype);
    EXPECT_EQ(object.at("kv").at("shape"), json({5, 8, 32, 2, 16, 128}));
    for (const char* name : {"scales", "errors"}) {
      EXPECT_EQ(object.at(name).at("dtype"), "F32");
      EXPECT_EQ(object.at(name).at("shape"), json({5, 8, 32, 2}));
    }
  }
}

TEST(PrefixFile, LayoutAgreesWithTheTensorsOffsets) {
  Geometry quantized_hybrid = hybrid_geometry();
  quantized_hybrid.encoding = Encoding::kFp8;
  for (const Geometry& geometry : {small_geometry(), hybrid_geometry(), quantized_hybrid}) {
    const bool several = geometry.groups.size() > 1;
    const PrefixLayout layout = prefix_layout(geometry, 10);
    const json object = parsed(prefix_header(geometry, 10, kKey));
    const auto offset = [&](const std::string& name) {
      return layout.header_bytes + object.at(name).at("data_offsets").at(0).get<std::uint64_t>();
    };
    EXPECT_EQ(layout.blocks, 10U);
    EXPECT_EQ(layout.groups, geometry.groups.size());
    for (std::size_t g = 0; g < geometry.groups.size(); ++g) {
      const std::string suffix = several ? "." + std::to_string(g) : "";
      if (quantized(geometry.encoding)) {
        EXPECT_EQ(layout.scales[g], offset("scales" + suffix));
        EXPECT_EQ(layout.errors[g], offset("errors" + suffix));
      }
      EXPECT_EQ(layout.kv[g], offset("kv" + suffix));
      EXPECT_EQ(layout.checksums[g], offset("checksums" + suffix));
      EXPECT_EQ(object.at("kv" + suffix).at("shape").at(0), 10U - layout.first_block[g]);
    }
    EXPECT_EQ(layout.extras, offset("extras"));
    EXPECT_EQ(layout.tokens, offset("tokens"));
    EXPECT_EQ(layout.kv[0], layout.header_bytes);
  }
}

TEST(PrefixFile, TensorsHaveTheCanonicalShape) {
  const json object = parsed(prefix_header(llama_geometry(), 5, kKey));
  EXPECT_EQ(object.at("kv").at("shape"), json({5, 8, 32, 2, 16, 128}));
  EXPECT_EQ(object.at("kv").at("dtype"), "BF16");
  EXPECT_EQ(object.at("tokens").at("shape"), json({80}));
  EXPECT_EQ(object.at("extras").at("shape"), json({5, 2}));
  const json& metadata = object.at("__metadata__");
  EXPECT_EQ(metadata.at("format"), "kvfs.prefix.v1");
  EXPECT_EQ(metadata.at("blocks"), "5");
  EXPECT_EQ(metadata.at("key"), to_hex(kKey));
  EXPECT_EQ(geometry_from_json(json::parse(metadata.at("geometry").get<std::string>())),
            llama_geometry());
}

TEST(PrefixFile, WindowedGroupHasItsLastBlocksOnly) {
  const Geometry geometry = hybrid_geometry();
  EXPECT_EQ(prefix_layout(geometry, 2).first_block[1], 0U);
  const PrefixLayout layout = prefix_layout(geometry, 10);
  EXPECT_EQ(layout.first_block[0], 0U);
  EXPECT_EQ(layout.first_block[1], 7U);
  EXPECT_EQ(layout.checksums[0] - layout.kv[1], 3 * geometry.block_bytes(1));
}

TEST(PrefixFile, OpaqueBlocksAreBytes) {
  Geometry geometry = small_geometry();
  geometry.layout = "opaque:amx";
  const json object = parsed(prefix_header(geometry, 3, kKey));
  EXPECT_EQ(object.at("kv").at("dtype"), "U8");
  EXPECT_EQ(object.at("kv").at("shape"), json({3, geometry.block_bytes(0)}));
}

TEST(PrefixFile, ParsesWhatItWrote) {
  for (const Geometry& geometry : {small_geometry(), llama_geometry(), hybrid_geometry()}) {
    const std::string header = prefix_header(geometry, 6, kKey);
    const PrefixLayout layout = prefix_layout(geometry, 6);
    const Result<PrefixHeader> found = parse(header + "data", layout.file_bytes, geometry);
    ASSERT_TRUE(found) << found.error().message;
    EXPECT_EQ(found->blocks, 6U);
    EXPECT_EQ(found->key, kKey);
    EXPECT_EQ(found->layout.tokens, layout.tokens);
  }
}

TEST(PrefixFile, RefusesEveryFlippedByte) {
  const std::string right = prefix_header(small_geometry(), 3, kKey);
  const std::uint64_t file_bytes = prefix_layout(small_geometry(), 3).file_bytes;
  const std::size_t key_at = right.find(to_hex(kKey));
  ASSERT_NE(key_at, std::string::npos);
  const std::size_t padding = right.rfind('}') + 1;
  for (std::size_t i = 0; i < right.size(); ++i) {
    for (const int flip : {0x01, 0x10, 0x20, 0x80}) {
      if (i > padding && flip != 0x20) continue;  // one wrong space is like another
      std::string wrong = right;
      wrong[i] = static_cast<char>(wrong[i] ^ flip);
      const Result<PrefixHeader> found = parse(wrong, file_bytes);
      if (found) {
        // A flipped key may be another good key: whoever imports compares it with the tokens'
        // chain.
        EXPECT_TRUE(i >= key_at && i < key_at + 32) << "byte " << i;
        EXPECT_NE(found->key, kKey);
      } else {
        EXPECT_THAT(found.error().message, HasSubstr(": "));  // what is wrong: what to do
        EXPECT_GT(found.error().message.size(), 40U) << found.error().message;
      }
    }
  }
}

TEST(PrefixFile, RefusesTruncatedAndPaddedFiles) {
  const std::string header = prefix_header(small_geometry(), 3, kKey);
  const std::uint64_t file_bytes = prefix_layout(small_geometry(), 3).file_bytes;
  for (const std::uint64_t size :
       {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{7}, std::uint64_t{8}, std::uint64_t{4095},
        std::uint64_t{4096}, file_bytes - 1}) {
    const auto head = std::string_view(header).substr(0, size);
    const Result<PrefixHeader> found = parse_prefix_header(
        std::as_bytes(std::span(head.data(), head.size())), size, small_geometry());
    ASSERT_FALSE(found) << size;
    EXPECT_EQ(found.error().code, Code::kInvalid);
    EXPECT_THAT(found.error().message, AllOf(HasSubstr("truncated"), HasSubstr("copy it again")))
        << size;
  }
  for (const std::uint64_t size : {file_bytes + 1, file_bytes * 2}) {
    const Result<PrefixHeader> found = parse(header, size);
    ASSERT_FALSE(found);
    EXPECT_THAT(
        found.error().message,
        AllOf(HasSubstr("padded"), HasSubstr(std::to_string(file_bytes)), HasSubstr("again")));
  }
}

TEST(PrefixFile, RefusesOtherGeometriesByName) {
  const std::string header = prefix_header(hybrid_geometry(), 3, kKey);
  Geometry other = hybrid_geometry();
  other.dtype = DType::kBF16;
  const Result<PrefixHeader> found = parse(header, prefix_layout(other, 3).file_bytes, other);
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, Code::kMismatch);
  EXPECT_THAT(found.error().message,
              AllOf(HasSubstr("dtype is F16"), HasSubstr("has BF16"), HasSubstr("copy it into")));
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(PrefixFile, RefusesOtherVersionsAndForeignFiles) {
  const std::string right = prefix_header(small_geometry(), 3, kKey);
  const std::uint64_t file_bytes = prefix_layout(small_geometry(), 3).file_bytes;
  const auto error = [&](const std::string& header) {
    const Result<PrefixHeader> found = parse(header, file_bytes);
    EXPECT_FALSE(found);
    return found ? Error{} : found.error();
  };
  const Error version = error(replaced(right, "prefix.v1", "prefix.v2"));
  EXPECT_EQ(version.code, Code::kMismatch);
  EXPECT_THAT(version.message, AllOf(HasSubstr("'kvfs.prefix.v2'"), HasSubstr("matching version")));
  EXPECT_THAT(error(replaced(right, "\"key\"", "\"kez\"")).message, HasSubstr("'key'"));
  EXPECT_THAT(error(replaced(right, "__metadata__", "__metadato__")).message,
              AllOf(HasSubstr("__metadata__"), HasSubstr("copied out of a kvfs mount")));
  EXPECT_THAT(error(replaced(right, "\"blocks\":\"3\"", "\"blocks\":\"0\"")).message,
              HasSubstr("blocks is '0'"));
  EXPECT_THAT(error(replaced(right, "\"shape\"", "\"shapf\"")).message,
              AllOf(HasSubstr("differs"), HasSubstr("\"shape\"")));
  EXPECT_THAT(error(replaced(right, "}  ", "} x")).message, HasSubstr("not a safetensors JSON"));
}

TEST(PrefixFile, HeaderLengthIsBounded) {
  const auto length = [](std::uint64_t value) {
    return prefix_header_bytes(std::as_bytes(std::span(&value, 1)));
  };
  EXPECT_EQ(length(4088), 4096U);
  EXPECT_EQ(length((1 << 20) - 8), 1U << 20);
  for (const std::uint64_t wrong : {0ULL, 1ULL, 4096ULL, (2ULL << 20) - 8, ~0ULL, ~0ULL - 7}) {
    const auto result = length(wrong);
    ASSERT_FALSE(result) << wrong;
    EXPECT_THAT(result.error().message, HasSubstr("header of " + std::to_string(wrong)));
  }
}

TEST(PrefixFile, FileNamesRoundTrip) {
  EXPECT_EQ(prefix_file_name(kKey), "99aabbccddeeff001122334455667788.safetensors");
  EXPECT_EQ(key_from_file_name(prefix_file_name(kKey)), kKey);
  for (const char* wrong : {"", ".safetensors", "99aabbccddeeff001122334455667788",
                            "99aabbccddeeff001122334455667788.safetensor",
                            "99AABBCCDDEEFF001122334455667788.safetensors",
                            "x99aabbccddeeff001122334455667788.safetensors"}) {
    EXPECT_FALSE(key_from_file_name(wrong)) << wrong;
  }
}

}  // namespace
}  // namespace kvfs
