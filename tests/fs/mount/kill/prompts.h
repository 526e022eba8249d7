// What the clients of the kill test store: prompts that share beginnings, and KV that follows from
// the tokens, so that whoever reads a block knows what it must hold.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lib/format/geometry.h"

namespace kvfs::test {

inline constexpr std::uint32_t kBlockTokens = 16;
inline constexpr std::uint32_t kFamilies = 5;  // prompts of a family begin with the same blocks
inline constexpr std::uint32_t kBranches = 24;
inline constexpr std::uint32_t kSharedBlocks = 4;
inline constexpr std::uint32_t kMaxBlocks = 20;

struct PromptId {
  std::uint32_t family = 0;
  std::uint32_t branch = 0;
  std::uint32_t blocks = 0;
};

// The namespaces: two models whose blocks differ in size, and one that files of the first are
// copied into.
struct Space {
  const char* name;
  std::uint32_t layers;
};
inline constexpr std::array<Space, 3> kSpaces{{{"a", 2}, {"b", 3}, {"copies", 2}}};
inline constexpr std::size_t kCopies = 2;
Geometry geometry_of(const Space& space);

std::vector<Token> tokens_of(const PromptId& prompt);
// What block `block` of a prompt that begins with these tokens holds.
void fill_block(std::span<const Token> tokens, std::uint32_t block, std::span<std::byte> out);

// Empty when `bytes` are a prefix file of these prompts, named after `key`; else what is wrong.
std::string wrong_in_file(const Geometry& geometry, const Key& key,
                          std::span<const std::byte> bytes);

}  // namespace kvfs::test
