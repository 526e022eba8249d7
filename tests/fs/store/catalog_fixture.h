// A catalog in a directory of its own, and blocks whose every field follows from a number.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "fs/store/catalog.h"
#include "tests/support/temp_directory.h"

namespace kvfs::store::test {

// Full attention beside a window of 3 blocks.
inline Geometry two_groups() {
  return {.model = "two",
          .dtype = DType::kF16,
          .block_tokens = 4,
          .groups = {{.layers = 2, .kv_heads = 1, .head_dim = 8},
                     {.layers = 5, .kv_heads = 1, .head_dim = 8, .window = 10}}};
}

inline Geometry one_group() {
  Geometry geometry = two_groups();
  geometry.groups.pop_back();
  return geometry;
}

inline std::unique_ptr<Catalog> open_catalog(const std::string& directory, const Geometry& geometry,
                                             std::uint32_t capacity = 16) {
  Result<std::unique_ptr<Catalog>> catalog = Catalog::create({.directory = directory,
                                                              .geometry = geometry,
                                                              .daemon_epoch = 7,
                                                              .initial_capacity = capacity});
  EXPECT_TRUE(catalog) << catalog.error().message;
  return std::move(*catalog);
}

inline std::vector<Token> block_tokens(std::uint32_t number) {
  const auto first = static_cast<Token>(number);
  return {first, first + 1, first * 3, 42};
}

inline Key block_key(const Key& parent, std::uint32_t number, const Extra& extra = {}) {
  return chain_key(parent, block_tokens(number), extra);
}

inline Placement in_dram(std::uint32_t slot) { return {.dram = {.slab = 1, .slot = slot}}; }

struct NewChild {
  BlockId parent = kNoBlock;
  std::uint32_t number = 0;  // tokens, and the DRAM slots number * groups + group
  Extra extra;
  std::uint32_t flags = 0;
  BlockId id = kNoBlock;
};

inline Result<BlockId> prepare(Catalog& catalog, const Geometry& geometry, const NewChild& child) {
  const std::vector<Token> tokens = block_tokens(child.number);
  const Key parent = child.parent == kNoBlock ? geometry.seed() : catalog.key(child.parent);
  std::vector<Placement> placements;
  const auto groups = static_cast<std::uint32_t>(geometry.groups.size());
  for (std::uint32_t g = 0; g < groups; ++g)
    placements.push_back(in_dram(child.number * groups + g));
  return catalog.prepare({.parent = child.parent,
                          .key = block_key(parent, child.number, child.extra),
                          .extra = child.extra,
                          .tokens = tokens,
                          .placements = placements,
                          .stored_at = 1000,
                          .flags = child.flags,
                          .id = child.id});
}

inline Result<BlockId> insert(Catalog& catalog, const Catalog::NewBlock& block) {
  Result<BlockId> id = catalog.prepare(block);
  if (id) catalog.publish({&*id, 1});
  return id;
}

inline Result<BlockId> insert(Catalog& catalog, const Geometry& geometry, const NewChild& child) {
  Result<BlockId> id = prepare(catalog, geometry, child);
  if (id) catalog.publish({&*id, 1});
  return id;
}

// Blocks numbered first, first + 1, ... behind `parent`.
inline std::vector<BlockId> insert_chain(Catalog& catalog, const Geometry& geometry,
                                         std::uint32_t blocks, std::uint32_t first = 0,
                                         BlockId parent = kNoBlock) {
  std::vector<BlockId> ids;
  for (std::uint32_t i = 0; i < blocks; ++i) {
    const Result<BlockId> id =
        insert(catalog, geometry, {.parent = i == 0 ? parent : ids.back(), .number = first + i});
    EXPECT_TRUE(id) << id.error().message;
    ids.push_back(id.value_or(kNoBlock));
  }
  return ids;
}

// What a client would find for the tokens of blocks `numbers`.
inline Match match(const IndexView& view, const Geometry& geometry,
                   const std::vector<std::uint32_t>& numbers) {
  std::vector<Token> tokens;
  for (const std::uint32_t number : numbers) {
    const std::vector<Token> block = block_tokens(number);
    tokens.insert(tokens.end(), block.begin(), block.end());
  }
  std::vector<Key> keys(numbers.size());
  chain_keys(geometry.seed(), tokens, geometry.block_tokens, {}, keys);
  return view.match(keys, tokens);
}

}  // namespace kvfs::store::test
