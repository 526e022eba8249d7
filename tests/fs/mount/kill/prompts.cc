#include "tests/fs/mount/kill/prompts.h"

#include <algorithm>
#include <cstring>

#include "lib/format/prefix_file.h"

namespace kvfs::test {
namespace {

std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

}  // namespace

Geometry geometry_of(const Space& space) {
  return {.model = "kill",
          .dtype = DType::kF32,
          .block_tokens = kBlockTokens,
          .groups = {{.layers = space.layers, .kv_heads = 4, .head_dim = 32}}};
}

std::vector<Token> tokens_of(const PromptId& prompt) {
  std::vector<Token> tokens(std::size_t{prompt.blocks} * kBlockTokens);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const std::uint64_t branch = i < kSharedBlocks * kBlockTokens ? 0 : prompt.branch + 1;
    tokens[i] =
        static_cast<Token>(mix((std::uint64_t{prompt.family} << 32 | branch << 16) + i) % 50000);
  }
  return tokens;
}

void fill_block(std::span<const Token> tokens, std::uint32_t block, std::span<std::byte> out) {
  std::uint64_t seed = block;
  for (const Token token : tokens.first((block + std::size_t{1}) * kBlockTokens)) {
    seed = mix(seed ^ static_cast<std::uint64_t>(token));
  }
  for (std::size_t at = 0; at < out.size(); at += sizeof seed) {
    const std::uint64_t word = mix(seed + at);
    std::memcpy(&out[at], &word, sizeof word);
  }
}

std::string wrong_in_file(const Geometry& geometry, const Key& key,
                          std::span<const std::byte> bytes) {
  const auto header = parse_prefix_header(bytes, bytes.size(), geometry);
  if (!header) return header.error().message;
  if (header->key != key) return "the header has another key than the name";
  std::vector<Token> tokens(std::size_t{header->blocks} * kBlockTokens);
  std::memcpy(tokens.data(), &bytes[header->layout.tokens], tokens.size() * sizeof(Token));
  std::vector<Key> keys(header->blocks);
  chain_keys(geometry.seed(), tokens, kBlockTokens, {}, keys);
  if (keys.back() != key) return "its tokens are those of another key";
  std::vector<std::byte> expected(geometry.block_bytes(0));
  for (std::uint32_t block = 0; block < header->blocks; ++block) {
    fill_block(tokens, block, expected);
    if (!std::ranges::equal(expected, bytes.subspan(header->layout.kv[0] + block * expected.size(),
                                                    expected.size()))) {
      return "block " + std::to_string(block) + " of " + std::to_string(header->blocks) +
             " does not hold what follows from its tokens";
    }
  }
  return {};
}

}  // namespace kvfs::test
