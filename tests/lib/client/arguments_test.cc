// Bad arguments: each is refused with its status and a sentence that names it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <kvfs/kvfs.hpp>

#include "tests/lib/client/engine_cache.h"
#include "tests/support/mounted.h"

namespace kvfs::test {
namespace {

using ::testing::HasSubstr;

constexpr ModelShape kShape;

class Arguments : public Mounted {
 protected:
  void SetUp() override {
    Mounted::SetUp();
    if (IsSkipped()) return;
    Client::create_namespace(mount(), "ns", c_geometry({kShape}));
  }
  static void expect(kvfs_status wanted, const char* part, const std::function<void()>& call) {
    try {
      call();
      ADD_FAILURE() << "was not refused: " << part;
    } catch (const Error& error) {
      EXPECT_EQ(error.status(), wanted) << error.what();
      EXPECT_THAT(error.what(), HasSubstr(part));
    }
  }
};

TEST_F(Arguments, Opening) {
  const std::string m = mount();
  expect(KVFS_NOT_FOUND, "create it", [&] { Client(m, "nobody"); });
  expect(KVFS_NOT_FOUND, "not a kvfs mount", [&] { Client("/tmp", "ns"); });
  expect(KVFS_NOT_FOUND, "not a directory", [&] { Client("/no/such/mount", "ns"); });
  expect(KVFS_INVALID, "cannot be a namespace", [&] { Client(m, "a/b"); });
  expect(KVFS_INVALID, "cannot be a namespace", [&] { Client(m, ""); });
  expect(KVFS_INVALID, "cannot be a namespace", [&] { Client(m, ".kvfs"); });
  EXPECT_EQ(kvfs_open(nullptr, "ns", nullptr, nullptr, nullptr), KVFS_INVALID);
  EXPECT_THAT(kvfs_last_error(), HasSubstr("mount is NULL"));
  kvfs_geometry other = c_geometry({kShape});
  other.dtype = KVFS_BF16;
  expect(KVFS_MISMATCH, "dtype is BF16, the namespace has F32",
         [&] { Client(m, "ns", {}, &other); });
  const kvfs_geometry same = c_geometry({kShape});
  EXPECT_NO_THROW(Client(m, "ns", {}, &same));
}

TEST_F(Arguments, Geometries) {
  const std::string m = mount();
  EXPECT_NO_THROW(Client::create_namespace(m, "ns", c_geometry({kShape})));  // again, the same
  expect(KVFS_MISMATCH, "kv_heads",
         [&] { Client::create_namespace(m, "ns", c_geometry({{.heads = 2}})); });
  kvfs_geometry none = c_geometry({kShape});
  none.group_count = 0;
  expect(KVFS_INVALID, "group_count is 0", [&] { Client::create_namespace(m, "x", none); });
  kvfs_geometry dtype = c_geometry({kShape});
  dtype.dtype = static_cast<kvfs_dtype>(7);
  expect(KVFS_INVALID, "dtype is 7", [&] { Client::create_namespace(m, "x", dtype); });
  kvfs_geometry model = c_geometry({kShape});
  model.model = nullptr;
  expect(KVFS_INVALID, "model", [&] { Client::create_namespace(m, "x", model); });
  kvfs_geometry encoding = c_geometry({kShape});
  encoding.encoding = "zip";
  expect(KVFS_INVALID, "encoding 'zip'", [&] { Client::create_namespace(m, "x", encoding); });
}

TEST_F(Arguments, Prompts) {
  Client client(mount(), "ns");
  auto tokens = some_tokens(64, 1);
  tokens[37] = -5;
  expect(KVFS_INVALID, "tokens[37] is -5", [&] { (void)client.match({tokens}); });
  expect(KVFS_INVALID, "tokens[37] is -5", [&] { (void)client.acquire(Prompt{tokens}); });
  expect(KVFS_INVALID, "tokens[37] is -5", [&] { (void)client.reserve({tokens}); });
  Client fallback(mount(), "ns", {.force_fallback = true});
  expect(KVFS_INVALID, "tokens[37] is -5", [&] { (void)fallback.match({tokens}); });
  tokens[37] = 5;
  const std::vector<kvfs_extra> extras{{.block = 2, .bytes_size = 1, .bytes = "a"},
                                       {.block = 1, .bytes_size = 1, .bytes = "b"}};
  expect(KVFS_INVALID, "sort extras", [&] { (void)client.match({tokens, extras}); });
  const kvfs_prompt null{.tokens = nullptr, .token_count = 16, .extras = nullptr, .extra_count = 0};
  kvfs_match_result result;
  EXPECT_EQ(kvfs_match(client.get(), &null, &result), KVFS_INVALID);
  EXPECT_EQ(kvfs_match(nullptr, &null, &result), KVFS_INVALID);
  EXPECT_THAT(kvfs_last_error(), HasSubstr("client is NULL"));
  EXPECT_EQ(kvfs_match(client.get(), nullptr, &result), KVFS_INVALID);
  EXPECT_EQ(client.match({std::span(tokens).first(15)}).blocks, 0U);  // no full block: a miss
  EXPECT_EQ(client.reserve({std::span(tokens).first(15)}).range().count, 0U);
}

TEST_F(Arguments, Transfers) {
  Client client(mount(), "ns");
  const auto tokens = some_tokens(64, 2);
  EngineCache cache(kShape, 64);
  Reservation reservation = client.reserve({tokens});
  expect(KVFS_INVALID, "group is 1",
         [&] { reservation.store({.first = 0, .count = 4, .group = 1}, cache.pages()); });
  expect(KVFS_INVALID, "[0, 4) are reserved", [&] { reservation.store({1, 4}, cache.pages()); });
  kvfs_pages pages = cache.pages();
  pages.size = 8;
  expect(KVFS_INVALID, "pages.size is 8", [&] { reservation.store({0, 4}, pages); });
  pages = cache.pages();
  pages.layer_count = 3;
  expect(KVFS_INVALID, "layer_count is 3", [&] { reservation.store({0, 4}, pages); });
  pages = cache.pages();
  pages.token_stride = 16;  // elements, not bytes
  expect(KVFS_INVALID, "strides in bytes", [&] { reservation.store({0, 4}, pages); });
  pages = cache.pages();
  pages.first_head = 3;
  pages.head_count = 2;
  expect(KVFS_INVALID, "heads [3, 5)", [&] { reservation.store({0, 4}, pages); });
  pages = cache.pages();
  pages.first_token = 16;
  expect(KVFS_INVALID, "before first_token", [&] { reservation.store({0, 4}, pages); });
  const std::vector<std::int32_t> table{0, 1, -1, 3};
  pages = cache.pages();
  pages.page_table = table.data();
  pages.page_count = 4;
  expect(KVFS_INVALID, "page_tokens", [&] { reservation.store({0, 4}, pages); });
  pages.page_tokens = 16;
  pages.page_stride = 16 * pages.token_stride;
  expect(KVFS_INVALID, "page_table[2] is -1", [&] { reservation.store({0, 4}, pages); });
  pages.page_tokens = 12;
  expect(KVFS_INVALID, "neither a divisor", [&] { reservation.store({0, 4}, pages); });
  pages.page_tokens = 8;
  expect(KVFS_INVALID, "need 8 of 8 tokens", [&] { reservation.store({0, 4}, pages); });
  EXPECT_EQ(kvfs_store(reservation.get(), 0, 0, 4, nullptr, nullptr, nullptr), KVFS_INVALID);
  expect(KVFS_INVALID, "end_block is 9", [&] { reservation.commit(9); });

  cache.fill(2);
  reservation.store({0, 4}, cache.pages());
  reservation.commit();
  Lease lease = client.acquire(client.match({tokens}).key);
  expect(KVFS_INVALID, "the prefix has 4", [&] { lease.load({2, 3}, cache.pages()); });
  EXPECT_NO_THROW(lease.load({4, 0}, cache.pages()));  // nothing is no mistake
  void* const null_block = nullptr;
  expect(KVFS_INVALID, "blocks[0] is NULL", [&] { lease.load_blocks(0, 0, {&null_block, 1}); });
  expect(KVFS_NOT_FOUND, "is not there", [&] { (void)client.acquire(kvfs_key{1, 2}); });
  expect(KVFS_NOT_FOUND, "reservation 12345",
         [&] { (void)client.join(12345, {.first_block = 0, .count = 1}); });
}

TEST_F(Arguments, ReadOnlyClientsDoNotStore) {
  Client client(mount(), "ns", {.read_only = true});
  expect(KVFS_PERMISSION, "read_only", [&] { (void)client.reserve({some_tokens(64, 3)}); });
}

TEST_F(Arguments, FreeingNothingIsAllowed) {
  kvfs_release(nullptr);
  kvfs_reservation_free(nullptr);
  kvfs_transfer_free(nullptr);
  kvfs_close(nullptr);
  EXPECT_STREQ(kvfs_status_name(KVFS_CORRUPT), "corrupt");
  EXPECT_STREQ(kvfs_status_name(KVFS_FORKED), "forked");
  EXPECT_STREQ(kvfs_status_name(static_cast<kvfs_status>(15)), "unknown");
}

TEST_F(Arguments, GeometryReadsBack) {
  Client client(mount(), "ns");
  const kvfs_geometry geometry = client.geometry();
  EXPECT_STREQ(geometry.model, "test");
  EXPECT_EQ(geometry.dtype, KVFS_F32);
  EXPECT_EQ(geometry.group_count, 1U);
  EXPECT_EQ(geometry.groups[0].kv_heads, kShape.heads);
  EXPECT_STREQ(geometry.layout, "canonical");
  EXPECT_STREQ(geometry.encoding, "raw");
  EXPECT_EQ(client.block_bytes(), 4U * 4 * 2 * 16 * 16 * 4);
  EXPECT_EQ(client.block_bytes(1), 0U);
}

// Several groups, one with a window; opaque layouts.
class Groups : public Mounted, public ::testing::WithParamInterface<bool> {
 protected:
  static constexpr ModelShape kFull{.layers = 2};
  static constexpr ModelShape kWindow{.layers = 5, .heads = 1, .window = 40};
};

TEST_P(Groups, EachGroupStoresAndLoads) {
  Client::create_namespace(mount(), "ns", c_geometry({kFull, kWindow}));
  Client client(mount(), "ns", {.force_fallback = GetParam()});
  const auto tokens = some_tokens(16 * 10, 1);
  EngineCache full(kFull, tokens.size());
  EngineCache window(kWindow, tokens.size());
  full.fill(1);
  window.fill(2);
  Reservation reservation = client.reserve({tokens});
  reservation.store({.first = 0, .count = 10, .group = 0}, full.pages());
  reservation.store({.first = 0, .count = 10, .group = 1}, window.pages());
  reservation.commit();

  auto [lease, match] = client.acquire(Prompt{tokens});
  ASSERT_EQ(match.blocks, 10U);
  EngineCache full_loaded(kFull, tokens.size());
  EngineCache window_loaded(kWindow, tokens.size());
  lease->load({.first = 0, .count = 10, .group = 0}, full_loaded.pages());
  lease->load({.first = 7, .count = 3, .group = 1}, window_loaded.pages());
  EXPECT_TRUE(full_loaded.holds(1, 0, 160));
  EXPECT_TRUE(window_loaded.holds(2, 112, 160));
  EXPECT_TRUE(window_loaded.untouched(0, 112));
  try {
    lease->load({.first = 0, .count = 10, .group = 1}, window_loaded.pages());
    FAIL() << "blocks before the window were loaded";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), KVFS_INVALID);
    EXPECT_THAT(error.what(), HasSubstr("load from block 7 on"));
  }
}

TEST_P(Groups, OpaqueBlocksMoveWhole) {
  kvfs_geometry geometry = c_geometry({kFull});
  geometry.layout = "opaque:amx";
  Client::create_namespace(mount(), "packed", geometry);
  Client client(mount(), "packed", {.force_fallback = GetParam()});
  const auto tokens = some_tokens(16 * 6, 1);
  const std::uint64_t bytes = client.block_bytes();
  std::vector<std::vector<unsigned char>> blocks;
  std::vector<void*> pointers;
  for (unsigned i = 0; i < 6; ++i) {
    blocks.emplace_back(bytes);
    for (std::size_t b = 0; b < bytes; ++b) {
      blocks[i][b] = static_cast<unsigned char>(b * 31 + i * 7);
    }
  }
  for (auto& block : blocks) pointers.push_back(block.data());
  Reservation reservation = client.reserve({tokens});
  reservation.store_blocks(0, 0, pointers);
  EngineCache wrong(kFull, tokens.size());
  EXPECT_THROW(reservation.store({0, 6}, wrong.pages()), Error);
  EXPECT_THAT(kvfs_last_error(), HasSubstr("opaque:amx"));
  reservation.commit();

  Lease lease = client.acquire(client.match({tokens}).key);
  std::vector<unsigned char> second(bytes), last(bytes);
  const std::vector<void*> targets{second.data()};
  lease.load_blocks(0, 1, targets);
  EXPECT_EQ(second, blocks[1]);
  const std::vector<void*> tail{last.data()};
  lease.load_blocks(0, 5, tail);
  EXPECT_EQ(last, blocks[5]);
}

INSTANTIATE_TEST_SUITE_P(Ways, Groups, ::testing::Values(false, true),
                         [](const auto& way) { return way.param ? "fallback" : "mapped"; });

}  // namespace
}  // namespace kvfs::test
