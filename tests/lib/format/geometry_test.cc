#include "lib/format/geometry.h"

#include <gmock/gmock.h>

#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/lib/format/geometries.h"

namespace kvfs {
namespace {

using nlohmann::json;
using test::hybrid_geometry;
using test::llama_geometry;
using testing::AllOf;
using testing::HasSubstr;

TEST(Geometry, SizesFollowTheDesign) {
  const Geometry llama = llama_geometry();
  EXPECT_EQ(llama.block_bytes(0), 2ULL * 32 * 8 * 128 * 16 * 2);  // 2 MiB
  EXPECT_EQ(llama.slot_bytes(0), llama.block_bytes(0));
  EXPECT_EQ(llama.stored_bytes(0), llama.block_bytes(0));
  EXPECT_EQ(llama.window_blocks(0), 0U);

  Geometry packed = llama;
  packed.encoding = Encoding::kPacked;
  ASSERT_TRUE(validate(packed));
  EXPECT_EQ(packed.block_bytes(0), llama.block_bytes(0));
  // A head: 64 ends, 64 bands of (1 + 16 + 16 * 3 / 8) * 128, escapes of 131072 / 24; by 64.
  EXPECT_EQ(packed.stored_bytes(0), 8ULL * 194176);
  EXPECT_EQ(packed.slot_bytes(0), 380ULL * 4096);
  EXPECT_NE(packed.seed(), llama.seed());

  for (const Encoding encoding : {Encoding::kFp8, Encoding::kInt8}) {
    Geometry half = llama;
    half.encoding = encoding;
    ASSERT_TRUE(validate(half));
    // A head: 64 scales and 64 errors of 4 bytes, 64 planes of 16 * 128 numbers.
    EXPECT_EQ(half.stored_bytes(0), 8ULL * (512 + 131072));
    EXPECT_EQ(half.slot_bytes(0), 257ULL * 4096);
    EXPECT_EQ(half.block_bytes(0), llama.block_bytes(0));
    EXPECT_EQ(half.tensor_bytes(BlockTensor::kNumbers, 0), llama.block_bytes(0) / 2);
    EXPECT_EQ(half.tensor_bytes(BlockTensor::kScales, 0), 8ULL * 64 * 4);
    EXPECT_EQ(half.tensor_bytes(BlockTensor::kErrors, 0), 8ULL * 64 * 4);
    EXPECT_NE(half.seed(), llama.seed());
  }
  EXPECT_EQ(llama.tensor_bytes(BlockTensor::kNumbers, 0), llama.block_bytes(0));

  const Geometry hybrid = hybrid_geometry();
  EXPECT_EQ(hybrid.block_bytes(1), 2ULL * 5 * 1 * 8 * 4 * 2);
  EXPECT_EQ(hybrid.slot_bytes(1), 4096U);
  EXPECT_EQ(hybrid.window_blocks(0), 0U);
  EXPECT_EQ(hybrid.window_blocks(1), 3U);  // 10 tokens in blocks of 4
}

TEST(Geometry, WindowBlocksDoNotWrap) {
  Geometry geometry = hybrid_geometry();
  geometry.groups[1].window = std::numeric_limits<std::uint32_t>::max();
  EXPECT_EQ(geometry.window_blocks(1), 1U << 30);
}

TEST(Geometry, DtypeNamesRoundTripAndHaveAliases) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kF8E5M2,
                            DType::kI8, DType::kU8}) {
    EXPECT_EQ(dtype_from_name(dtype_name(dtype)), dtype);
  }
  EXPECT_EQ(dtype_from_name("torch.float16"), DType::kF16);
  EXPECT_EQ(dtype_from_name("bfloat16"), DType::kBF16);
  EXPECT_EQ(dtype_from_name("float32"), DType::kF32);
  EXPECT_EQ(dtype_from_name("torch.float8_e4m3fn"), DType::kF8E4M3);
  EXPECT_EQ(dtype_bytes(DType::kBF16), 2U);
  for (const char* wrong : {"", "f64", "torch.", "BF16 "}) {
    const Result<DType> unknown = dtype_from_name(wrong);
    ASSERT_FALSE(unknown) << wrong;
    EXPECT_THAT(unknown.error().message, AllOf(HasSubstr(wrong), HasSubstr("use one of F32")));
  }
}

TEST(Geometry, JsonRoundTrip) {
  for (const Geometry& geometry : {llama_geometry(), hybrid_geometry(), test::small_geometry()}) {
    const Result<Geometry> again = geometry_from_json(json::parse(to_json(geometry).dump()));
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(*again, geometry);
    EXPECT_EQ(describe_difference(*again, geometry), "");
  }
}

TEST(Geometry, OneGroupMayBeFlatAndDefaultsApply) {
  const Result<Geometry> geometry = geometry_from_json(
      json::parse(R"({"model":"m","dtype":"bfloat16","layers":32,"kv_heads":8,"head_dim":128})"));
  ASSERT_TRUE(geometry) << geometry.error().message;
  EXPECT_EQ(geometry->block_tokens, 16U);
  EXPECT_EQ(geometry->layout, "canonical");
  EXPECT_EQ(geometry->groups, (std::vector<Group>{{.layers = 32, .kv_heads = 8, .head_dim = 128}}));
}

TEST(Geometry, SeedIsStable) {
  // A change here orphans every stored block: it needs a new format version.
  EXPECT_EQ(to_json(hybrid_geometry()).dump(),
            R"({"block_tokens":4,"dtype":"F16","encoding":"raw","groups":[)"
            R"({"head_dim":8,"kv_factor":2,"kv_heads":1,"layers":2,"window":0},)"
            R"({"head_dim":8,"kv_factor":2,"kv_heads":1,"layers":5,"window":10}],)"
            R"("layout":"canonical","model":"hybrid","salt":""})");
  EXPECT_EQ(to_hex(hybrid_geometry().seed()), "fd75c08fd588fa5522b7f7977cf18c71");
}

// Each changes one thing of hybrid_geometry, so that two of them never agree.
const std::vector<std::pair<const char*, std::function<void(Geometry&)>>> kChanges{
    {"model", [](Geometry& g) { g.model = "other"; }},
    {"dtype", [](Geometry& g) { g.dtype = DType::kBF16; }},
    {"block_tokens", [](Geometry& g) { g.block_tokens = 8; }},
    {"salt", [](Geometry& g) { g.salt = "tenant"; }},
    {"layout", [](Geometry& g) { g.layout = "opaque:avx512"; }},
    {"number of groups", [](Geometry& g) { g.groups.pop_back(); }},
    {"groups[0].layers", [](Geometry& g) { g.groups[0].layers = 9; }},
    {"groups[1].kv_heads", [](Geometry& g) { g.groups[1].kv_heads = 9; }},
    {"groups[1].head_dim", [](Geometry& g) { g.groups[1].head_dim = 16; }},
    {"groups[0].kv_factor", [](Geometry& g) { g.groups[0].kv_factor = 1; }},
    {"groups[1].window", [](Geometry& g) { g.groups[1].window = 11; }},
};

TEST(Geometry, EveryFieldChangesTheSeedAndIsNamedInADifference) {
  std::set<Key> seeds{hybrid_geometry().seed()};
  for (const auto& [name, change] : kChanges) {
    Geometry changed = hybrid_geometry();
    change(changed);
    ASSERT_TRUE(validate(changed)) << name;
    EXPECT_TRUE(seeds.insert(changed.seed()).second) << name;
    EXPECT_THAT(describe_difference(changed, hybrid_geometry()), HasSubstr(name));
  }
  Geometry changed = hybrid_geometry();
  changed.dtype = DType::kBF16;
  EXPECT_EQ(describe_difference(changed, hybrid_geometry()),
            "dtype is BF16, the namespace has F16");
}

TEST(Geometry, LimitsAreRefusedByNameWithARemedy) {
  const std::vector<std::tuple<const char*, const char*, std::function<void(Geometry&)>>> wrong{
      {"model", "give", [](Geometry& g) { g.model = ""; }},
      {"model", "give", [](Geometry& g) { g.model = std::string(256, 'm'); }},
      {"model", "UTF-8", [](Geometry& g) { g.model = "\xff"; }},
      {"model", "printable", [](Geometry& g) { g.model = "a\nb"; }},
      {"salt", "hex", [](Geometry& g) { g.salt = std::string(256, 's'); }},
      {"salt", "hex", [](Geometry& g) { g.salt = "\xc3"; }},
      {"block_tokens is 0", "use 1 to 1024", [](Geometry& g) { g.block_tokens = 0; }},
      {"block_tokens is 1025", "use 1 to 1024", [](Geometry& g) { g.block_tokens = 1025; }},
      {"layout 'rowmajor'", "use canonical", [](Geometry& g) { g.layout = "rowmajor"; }},
      {"layout 'opaque:'", "opaque:TAG", [](Geometry& g) { g.layout = "opaque:"; }},
      {"layout 'opaque:a/b'", "opaque:TAG", [](Geometry& g) { g.layout = "opaque:a/b"; }},
      {"encoding 'fp8' is for the dtypes BF16, F16 and F32, not F8_E5M2", "use raw",
       [](Geometry& g) {
         g.encoding = Encoding::kFp8;
         g.dtype = DType::kF8E5M2;
       }},
      {"encoding 'int8' needs the layout canonical", "use raw",
       [](Geometry& g) {
         g.encoding = Encoding::kInt8;
         g.layout = "opaque:amx";
       }},
      {"encoding 'int8' needs block_tokens * head_dim to be a multiple of 8", "not 1 * 12",
       [](Geometry& g) {
         g.encoding = Encoding::kInt8;
         g.block_tokens = 1;
         g.groups[0].head_dim = 12;
       }},
      {"encoding 'packed' is for the dtype BF16, not F16", "use raw",
       [](Geometry& g) { g.encoding = Encoding::kPacked; }},
      {"encoding 'packed' needs the layout canonical", "use raw",
       [](Geometry& g) {
         g.encoding = Encoding::kPacked;
         g.layout = "opaque:amx";
       }},
      {"encoding 'packed' needs block_tokens that are a multiple of 16", "not 4 and 8",
       [](Geometry& g) {
         g.encoding = Encoding::kPacked;
         g.dtype = DType::kBF16;
       }},
      {"encoding 'packed' needs", "not 16 and 12",
       [](Geometry& g) {
         g.encoding = Encoding::kPacked;
         g.dtype = DType::kBF16;
         g.block_tokens = 16;
         g.groups[1].head_dim = 12;
       }},
      {"groups has 0", "give 1 to 16", [](Geometry& g) { g.groups.clear(); }},
      {"groups has 17", "give 1 to 16", [](Geometry& g) { g.groups.resize(17); }},
      {"groups[0].layers is 0", "at least 1", [](Geometry& g) { g.groups[0].layers = 0; }},
      {"groups[1].kv_heads is 0", "at least 1", [](Geometry& g) { g.groups[1].kv_heads = 0; }},
      {"groups[1].head_dim is 0", "at least 1", [](Geometry& g) { g.groups[1].head_dim = 0; }},
      {"kv_factor is 3", "use 2", [](Geometry& g) { g.groups[0].kv_factor = 3; }},
      {"block_bytes is over", "fewer", [](Geometry& g) { g.groups[0].layers = 1U << 24; }},
      // 2^64 and more must not pass as something small.
      {"block_bytes is over", "fewer",
       [](Geometry& g) {
         g.groups[0] = {.layers = 1U << 31, .kv_heads = 1U << 31, .head_dim = 8};
       }},
      {"block_bytes is 4", "multiple of 8",
       [](Geometry& g) {
         g.block_tokens = 1;
         g.groups[0] = {.layers = 1, .kv_heads = 1, .head_dim = 1};
       }},
  };
  for (const auto& [name, remedy, change] : wrong) {
    Geometry geometry = hybrid_geometry();
    change(geometry);
    const Status status = validate(geometry);
    ASSERT_FALSE(status) << name;
    EXPECT_EQ(status.error().code, Code::kInvalid);
    EXPECT_THAT(status.error().message, AllOf(HasSubstr(name), HasSubstr(remedy)));
  }
}

TEST(Geometry, LimitsThemselvesAreAccepted) {
  Geometry geometry = llama_geometry();
  geometry.model = std::string(255, 'm');
  geometry.salt = "größe";
  geometry.layout = "opaque:" + std::string(64, 't');
  geometry.block_tokens = kMaxBlockTokens;
  geometry.groups.assign(16, {.layers = 64, .kv_heads = 32, .head_dim = 128, .window = 1});
  EXPECT_EQ(geometry.block_bytes(0), 1ULL << 30);
  EXPECT_TRUE(validate(geometry)) << validate(geometry).error().message;
}

TEST(Geometry, WrongJsonIsRefusedByNameWithARemedy) {
  const std::vector<std::tuple<const char*, const char*, const char*>> wrong{
      {"[]", "geometry is not a JSON object", "give"},
      {R"({"dtype":"F16","layers":1,"kv_heads":1,"head_dim":8})", "model is missing", "must have"},
      {R"({"model":"m","layers":1,"kv_heads":1,"head_dim":8})", "dtype is missing", "must have"},
      {R"({"model":"m","dtype":"F16","kv_heads":1,"head_dim":8})", "layers is missing",
       "must have"},
      {R"({"model":"m","dtype":"F64","layers":1,"kv_heads":1,"head_dim":8})", "'F64'",
       "use one of"},
      {R"({"model":"m","dtype":"F16","layers":1,"kv_heads":1,"head_dim":8,"encoding":"zip"})",
       "'zip'", "use raw"},
      {R"({"model":"m","dtype":"F16","layers":1,"kv_heads":1,"head_dim":8,"heads":4})",
       "heads is not", "remove"},
      {R"({"model":"m","dtype":"F16","layers":-1,"kv_heads":1,"head_dim":8})", "layers is -1",
       "whole number"},
      {R"({"model":"m","dtype":"F16","layers":1.5,"kv_heads":1,"head_dim":8})", "layers is 1.5",
       "whole number"},
      {R"({"model":"m","dtype":"F16","layers":4294967296,"kv_heads":1,"head_dim":8})",
       "layers is 4294967296", "whole number"},
      {R"({"model":7,"dtype":"F16","layers":1,"kv_heads":1,"head_dim":8})", "model is 7",
       "a string"},
      {R"({"model":"m","dtype":"F16","groups":{}})", "groups is not a list", "give"},
      {R"({"model":"m","dtype":"F16","groups":[1]})", "groups[0] is not an object", "give"},
      {R"({"model":"m","dtype":"F16","groups":[{"layers":1,"kv_heads":1}]})",
       "groups[0].head_dim is missing", "must have"},
      {R"({"model":"m","dtype":"F16","groups":[{"layers":1,"kv_heads":1,"head_dim":8,"x":1}]})",
       "groups[0].x is not", "remove"},
      {R"({"model":"m","dtype":"F16","layers":2,"groups":[{"layers":1,"kv_heads":1,"head_dim":8}]})",
       "layers stands beside groups", "leave"},
      {R"({"model":"m","dtype":"F16","groups":[]})", "groups has 0", "give 1"},
  };
  for (const auto& [text, name, remedy] : wrong) {
    const Result<Geometry> geometry = geometry_from_json(json::parse(text));
    ASSERT_FALSE(geometry) << text;
    EXPECT_EQ(geometry.error().code, Code::kInvalid);
    EXPECT_THAT(geometry.error().message, AllOf(HasSubstr(name), HasSubstr(remedy))) << text;
  }
}

}  // namespace
}  // namespace kvfs
