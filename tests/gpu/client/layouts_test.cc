// libkvfs between a real mount and caches of every order of axes, in host and in device memory.
#include <gtest/gtest.h>
#include <kvfs/kvfs.hpp>

#include <array>

#include "tests/gpu/client/engine.h"
#include "tests/gpu/client/mounted_engine.h"

namespace kvfs::test {
namespace {

constexpr std::uint32_t kTokens = 16 * 13;

// Orders that engines have: [2, pages, tokens, heads, dim] and its like per layer, one tensor for
// all layers, K beside V, MLA's without heads.
const std::array<Layout, 14> kLayouts{{
    {.axes = "LKPTH"},
    {.axes = "LKPHT"},
    {.axes = "LPKTH"},
    {.axes = "LPKHT"},
    {.axes = "LPHTK"},
    {.axes = "LPTHK"},
    {.axes = "LHPTK"},
    {.axes = "PLHTK"},
    {.axes = "PLTHK"},
    {.axes = "PHLTK"},
    {.axes = "LKPTH", .page_tokens = 8},
    {.axes = "LKPHT", .page_tokens = 64},
    {.axes = "LKPTH", .page_tokens = 1, .kv_apart = true},
    {.axes = "LKPHT", .page_tokens = 0},
}};

class Layouts : public MountedEngine {};

TEST_P(Layouts, WhatOneStoresEveryOtherLoads) {
  const Model model;
  create("ns", model);
  Client client = open("ns");
  int seed = 0;
  for (const Layout& stored : kLayouts) {
    ++seed;
    SCOPED_TRACE("stored as " + stored.axes + " " + std::to_string(stored.page_tokens));
    Engine from(where(), model, stored, kTokens);
    from.fill(seed);
    store(client, from, seed, kTokens);
    for (const Layout& loaded : kLayouts) {
      SCOPED_TRACE("loaded as " + loaded.axes + " " + std::to_string(loaded.page_tokens));
      Engine to(where(), model, loaded, kTokens);
      load(client, to, seed, kTokens);
      ASSERT_TRUE(to.holds(seed, 0, kTokens));
    }
  }
}

TEST_P(Layouts, RanksLoadTheirShareOfWhatOtherRanksStored) {
  const Model model{.heads = 8};
  create("ns", model);
  Client client = open("ns");
  const auto tokens = prompt(1, kTokens);
  {
    Reservation first = client.reserve({tokens});
    Reservation second = client.join(first.id(), first.range());
    int rank = 0;
    for (Reservation* reservation : {&first, &second}) {
      Engine share(
          where(), model,
          {.axes = "LKPTH", .first_head = 4U * static_cast<std::uint32_t>(rank++), .heads = 4},
          kTokens);
      share.fill(1);
      reservation->store({0, kTokens / 16}, share.pages());
    }
    first.commit();
  }
  for (const std::uint32_t ranks : {1U, 2U, 4U, 8U}) {
    for (std::uint32_t rank = 0; rank < ranks; ++rank) {
      SCOPED_TRACE("rank " + std::to_string(rank) + " of " + std::to_string(ranks));
      Engine share(where(), model,
                   {.axes = "LPKHT", .first_head = rank * (8 / ranks), .heads = 8 / ranks},
                   kTokens);
      load(client, share, 1, kTokens);
      EXPECT_TRUE(share.holds(1, 0, kTokens));
    }
  }
}

TEST_P(Layouts, ElementsAndModels) {
  const std::array<Model, 4> models{{{.layers = 3, .heads = 1, .dim = 576, .kv = 1},
                                     {.layers = 5, .heads = 3, .dim = 20, .dtype = KVFS_F32},
                                     {.layers = 2, .heads = 2, .dim = 5},
                                     {.layers = 300, .heads = 1, .dim = 8, .block_tokens = 64}}};
  int number = 0;
  for (const Model& model : models) {
    ++number;
    SCOPED_TRACE("model " + std::to_string(number));
    const std::string name = "ns" + std::to_string(number);
    create(name, model);
    Client client = open(name);
    const std::uint32_t tokens = model.block_tokens * 5;
    for (const bool apart : {false, true}) {
      if (apart && model.kv == 1) continue;
      const int seed = apart ? 2 : 1;
      Engine from(where(), model, {.axes = "LKPTH", .page_tokens = 16, .kv_apart = apart}, tokens);
      from.fill(seed);
      store(client, from, seed, tokens);
      Engine to(where(), model, {.axes = "PLHTK", .page_tokens = 32}, tokens);
      load(client, to, seed, tokens);
      EXPECT_TRUE(to.holds(seed, 0, tokens));
    }
  }
}

TEST_P(Layouts, APrefixOfOneBlockAndAPartOfALongOne) {
  const Model model;
  create("ns", model);
  Client client = open("ns");
  Engine from(where(), model, {}, kTokens);
  from.fill(1);
  store(client, from, 1, kTokens);
  const auto tokens = prompt(1, 16);
  for (int i = 0; i < 50; ++i) {  // before its slab is pinned and after
    auto [lease, match] = client.acquire(Prompt{tokens});
    ASSERT_TRUE(lease);
    ASSERT_EQ(match.blocks, 1U);
    Engine to(where(), model, {.axes = "LPKHT"}, kTokens);
    lease->load({0, 1}, to.pages());
    ASSERT_TRUE(to.holds(1, 0, 16)) << "round " << i;
  }
  const auto all = prompt(1, kTokens);
  auto [lease, match] = client.acquire(Prompt{all});
  Engine to(where(), model, {}, kTokens);
  lease->load({5, 3}, to.pages());
  EXPECT_TRUE(to.holds(1, 16 * 5, 16 * 8));
}

INSTANTIATE_TEST_SUITE_P(Ways, Layouts, ::testing::ValuesIn(kWays), way_name);

}  // namespace
}  // namespace kvfs::test
