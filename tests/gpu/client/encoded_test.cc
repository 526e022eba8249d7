// Namespaces that are not raw between a real mount and caches in host and in device memory: the
// device encodes and decodes, and the daemon's code reads what it made.
#include <gtest/gtest.h>
#include <kvfs/kvfs.hpp>

#include <array>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/gpu/client/engine.h"
#include "tests/gpu/client/mounted_engine.h"

namespace kvfs::test {
namespace {

constexpr std::uint32_t kBlocks = 13;
constexpr std::uint32_t kTokens = 16 * kBlocks;
const Model kModel{.layers = 5, .heads = 6, .dim = 72, .encoding = "packed"};
Model encoded(const char* encoding) {
  Model model = kModel;
  model.encoding = encoding;
  return model;
}
constexpr std::array kEncodings{"packed", "fp8", "int8"};
constexpr std::size_t kBlockBytes = std::size_t{2} * 5 * 6 * 72 * 16 * 2;

const std::array<Layout, 6> kLayouts{{
    {.axes = "LKPTH"},
    {.axes = "LPKHT"},
    {.axes = "PHLTK", .page_tokens = 64},
    {.axes = "LKPTH", .page_tokens = 8},
    {.axes = "LKPTH", .page_tokens = 1, .kv_apart = true},
    {.axes = "LKPHT", .page_tokens = 0},
}};

class EncodedEngines : public MountedEngine {
 protected:
  void SetUp() override {
    MountedEngine::SetUp();
    for (const char* encoding : kEncodings) {
      if (!IsSkipped()) create(encoding, encoded(encoding));
    }
  }
};

TEST_P(EncodedEngines, WhatOneStoresEveryOtherLoads) {
  int seed = 0;
  for (const char* encoding : kEncodings) {
    Client client = open(encoding);
    const Model model = encoded(encoding);
    for (const Layout& stored : kLayouts) {
      SCOPED_TRACE(std::string(encoding) + " stored as " + stored.axes + " " +
                   std::to_string(stored.page_tokens));
      Engine from(where(), model, stored, kTokens);
      from.fill(++seed);
      store(client, from, seed, kTokens);
      for (const Layout& loaded : kLayouts) {
        SCOPED_TRACE("loaded as " + loaded.axes + " " + std::to_string(loaded.page_tokens));
        Engine to(where(), model, loaded, kTokens);
        load(client, to, seed, kTokens);
        ASSERT_TRUE(to.holds(seed, 0, kTokens));
      }
    }
  }
}

TEST_P(EncodedEngines, RanksLoadTheirShareOfWhatOtherRanksStored) {
  const auto tokens = prompt(1, kTokens);
  for (const char* encoding : kEncodings) {
    Client client = open(encoding);
    const Model model = encoded(encoding);
    {
      Reservation first = client.reserve({tokens});
      Reservation second = client.join(first.id(), first.range());
      std::uint32_t rank = 0;
      for (Reservation* reservation : {&first, &second}) {
        Engine share(where(), model, {.first_head = 3 * rank++, .heads = 3}, kTokens);
        share.fill(1);
        reservation->store({0, kBlocks}, share.pages());
      }
      EXPECT_EQ(first.commit().committed, kBlocks);
    }
    for (const std::uint32_t ranks : {1U, 2U, 3U, 6U}) {
      for (std::uint32_t rank = 0; rank < ranks; ++rank) {
        SCOPED_TRACE(std::string(encoding) + " rank " + std::to_string(rank) + " of " +
                     std::to_string(ranks));
        Engine share(where(), model,
                     {.axes = "LPKHT", .first_head = rank * (6 / ranks), .heads = 6 / ranks},
                     kTokens);
        load(client, share, 1, kTokens);
        EXPECT_TRUE(share.holds(1, 0, kTokens));
      }
    }
  }
}

// Some layers of a head are decoded by themselves, in all blocks or in the last ones.
TEST_P(EncodedEngines, LayersArriveInOrder) {
  const auto tokens = prompt(4, kTokens);
  for (const char* encoding : kEncodings) {
    Client client = open(encoding);
    const Model model = encoded(encoding);
    Engine stored(where(), model, {}, kTokens);
    stored.fill(4);
    store(client, stored, 4, kTokens);
    auto [lease, match] = client.acquire(Prompt{tokens});
    for (const std::uint32_t step : {1U, 2U, 4U}) {
      for (const std::uint32_t blocks : {0U, 5U}) {
        SCOPED_TRACE(std::string(encoding) + " by " + std::to_string(step) + " of " +
                     std::to_string(blocks));
        Engine found(where(), model, {.axes = "LPKHT"}, kTokens);
        Transfer loading = lease->begin_load({0, match.blocks}, found.pages(),
                                             {.layer_step = step, .layer_blocks = blocks});
        for (std::uint32_t layers = 1; layers <= model.layers; ++layers) {
          loading.wait_layers(layers);
          EXPECT_TRUE(found.holds_layers(4, layers)) << layers;
        }
        loading.wait();
        EXPECT_TRUE(found.holds(4, 0, kTokens));
      }
    }
    Engine rank(where(), model, {.axes = "LPKHT", .first_head = 1, .heads = 2}, kTokens);
    lease->load({3, 8}, rank.pages(), {.layer_step = 3});
    EXPECT_TRUE(rank.holds(4, 16 * 3, 16 * 11));
  }
}

// Pages in the canonical order, and the blocks themselves: the file shows both.
TEST_P(EncodedEngines, WholeBlocksAndTheFileAreUnpacked) {
  Client client = open("packed");
  const auto tokens = prompt(2, kTokens);
  Engine from(where(), kModel, {.axes = "PHLKT"}, kTokens);
  from.fill(2);
  const std::vector<std::byte> canonical = from.filled(2);
  std::vector<void*> blocks;
  for (const std::int32_t page : from.table()) {
    blocks.push_back(from.base() + static_cast<std::size_t>(page) * kBlockBytes);
  }
  Reservation reservation = client.reserve({tokens});
  reservation.store_blocks(0, 0, blocks);
  ASSERT_EQ(reservation.commit().committed, kBlocks);
  Engine loaded(where(), kModel, {.axes = "LKPTH"}, kTokens);
  load(client, loaded, 2, kTokens);
  EXPECT_TRUE(loaded.holds(2, 0, kTokens));
  auto [lease, match] = client.acquire(Prompt{tokens});
  from.clear();
  lease->load_blocks(0, 0, blocks);
  EXPECT_TRUE(from.holds(2, 0, kTokens));

  char name[33];
  std::snprintf(name, sizeof(name), "%016lx%016lx", match.key.hi, match.key.lo);
  std::ifstream file(mount() + "/packed/" + name + ".safetensors", std::ios::binary);
  const std::string content{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  ASSERT_GE(content.size(), 4096 + kBlocks * kBlockBytes);
  for (std::size_t i = 0; i < kBlocks; ++i) {
    const auto page = static_cast<std::size_t>(from.table()[i]);
    EXPECT_EQ(std::memcmp(content.data() + 4096 + i * kBlockBytes, &canonical[page * kBlockBytes],
                          kBlockBytes),
              0);
  }
}

// Bytes that are no model's: their exponents are anywhere.
TEST_P(EncodedEngines, APrefixEndsBeforeWhatDoesNotPack) {
  Client client = open("packed");
  const auto tokens = prompt(3, kTokens);
  Engine good(where(), kModel, {}, kTokens);
  good.fill(3);
  Model noise = kModel;
  noise.encoding = "raw";
  Engine bad(where(), noise, {}, kTokens);
  bad.fill(3);
  Reservation reservation = client.reserve({tokens});
  reservation.store({0, 9}, good.pages());
  reservation.store({9, 1}, bad.pages());
  reservation.store({10, kBlocks - 10}, good.pages());
  const kvfs_commit_result result = reservation.commit();
  EXPECT_EQ(result.committed, 9U);
  EXPECT_EQ(result.present, 0U);
  Engine loaded(where(), kModel, {}, kTokens);
  load(client, loaded, 3, 16 * 9);
  EXPECT_TRUE(loaded.holds(3, 0, 16 * 9));
}

INSTANTIATE_TEST_SUITE_P(Ways, EncodedEngines, ::testing::ValuesIn(kWays), way_name);

}  // namespace
}  // namespace kvfs::test
