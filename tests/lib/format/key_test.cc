#include "lib/format/key.h"

#include <gtest/gtest.h>
#include <xxhash.h>  // the library's functions, not the inlined ones of key.cc

#include <algorithm>
#include <array>
#include <limits>
#include <random>
#include <vector>

#include "lib/format/geometry.h"

namespace kvfs {
namespace {

// The definition in key.h, put together byte by byte.
Key reference_chain(const Key& parent, std::span<const Token> block, const Extra& extra) {
  std::vector<unsigned char> bytes;
  const auto append = [&bytes](std::uint64_t value, int width) {
    for (int i = 0; i < width; ++i) bytes.push_back(static_cast<unsigned char>(value >> (8 * i)));
  };
  append(parent.lo, 8);
  append(parent.hi, 8);
  for (const Token token : block) append(static_cast<std::uint32_t>(token), 4);
  if (!extra.is_zero()) {
    append(extra.lo, 8);
    append(extra.hi, 8);
  }
  XXH3_state_t* state = XXH3_createState();
  XXH3_128bits_reset(state);
  XXH3_128bits_update(state, bytes.data(), bytes.size());
  const XXH128_hash_t hash = XXH3_128bits_digest(state);
  XXH3_freeState(state);
  return {.lo = hash.low64, .hi = hash.high64};
}

std::vector<Token> random_tokens(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<Token> token(0, std::numeric_limits<Token>::max());
  std::vector<Token> tokens(count);
  for (Token& t : tokens) t = token(random);
  return tokens;
}

TEST(Key, ChainEqualsIndependentReference) {
  const Key seed{.lo = 0x0123456789abcdefULL, .hi = 0xfedcba9876543210ULL};
  for (const std::uint32_t block_tokens : {1U, 2U, 3U, 16U, 17U, 64U, 256U, kMaxBlockTokens}) {
    const std::size_t blocks = 7;
    const std::vector<Token> tokens =
        random_tokens(blocks * block_tokens + block_tokens - 1, block_tokens);
    const std::array<ExtraAt, 2> extras{
        {{.block = 2, .extra = {.lo = 5, .hi = 0}}, {.block = 6, .extra = {.lo = 0, .hi = 9}}}};
    std::vector<Key> keys(blocks);
    ASSERT_EQ(chain_keys(seed, tokens, block_tokens, extras, keys), blocks);
    Key parent = seed;
    for (std::size_t i = 0; i < blocks; ++i) {
      const Extra extra = i == 2 ? extras[0].extra : i == 6 ? extras[1].extra : Extra{};
      const auto block = std::span(tokens).subspan(i * block_tokens, block_tokens);
      EXPECT_EQ(chain_key(parent, block, extra), reference_chain(parent, block, extra));
      parent = reference_chain(parent, block, extra);
      EXPECT_EQ(keys[i], parent) << "block " << i << " of " << block_tokens << " tokens";
    }
  }
}

TEST(Key, AChainInPiecesIsTheSameChain) {
  const Key seed{.lo = 1, .hi = 2};
  const std::vector<Token> tokens = random_tokens(std::size_t{16} * 10, 3);
  const std::array<ExtraAt, 3> extras{{{.block = 0, .extra = {.lo = 1, .hi = 0}},
                                       {.block = 4, .extra = {.lo = 2, .hi = 0}},
                                       {.block = 9, .extra = {.lo = 3, .hi = 0}}}};
  std::vector<Key> whole(10);
  chain_keys(seed, tokens, 16, extras, whole);
  for (const std::size_t piece : {1U, 3U, 4U, 5U, 9U}) {
    std::vector<Key> keys(10);
    for (std::size_t done = 0; done < 10;) {
      const std::size_t end = std::min<std::size_t>(done + piece, 10);
      ASSERT_EQ(chain_keys(seed, tokens, 16, extras, std::span(keys).first(end), done), end);
      done = end;
    }
    EXPECT_EQ(keys, whole) << "pieces of " << piece;
  }
  EXPECT_EQ(chain_keys(seed, tokens, 16, extras, whole, 11), 10U);  // all are there
}

TEST(Key, DependsOnParentTokensAndExtra) {
  const std::vector<Token> tokens = random_tokens(16, 1);
  std::vector<Token> other = tokens;
  other[15] ^= 1;
  const Key key = chain_key({.lo = 1}, tokens);
  EXPECT_NE(key, chain_key({.lo = 2}, tokens));
  EXPECT_NE(key, chain_key({.lo = 1}, other));
  EXPECT_NE(key, chain_key({.lo = 1}, tokens, {.lo = 1}));
  EXPECT_EQ(key, chain_key({.lo = 1}, tokens, {}));
}

TEST(Key, ChainStopsAtFullBlocksAndAtTheRoomGiven) {
  const std::vector<Token> tokens = random_tokens(47, 2);
  std::vector<Key> keys(10);
  EXPECT_EQ(chain_keys({}, tokens, 16, {}, keys), 2U);
  EXPECT_TRUE(keys[2].is_zero());
  EXPECT_EQ(chain_keys({}, tokens, 16, {}, std::span(keys).first(1)), 1U);
  EXPECT_EQ(chain_keys({}, std::span(tokens).first(15), 16, {}, keys), 0U);
}

TEST(Key, DigestOfNothingIsZero) {
  EXPECT_TRUE(digest_extra({}).is_zero());
  const std::array<std::byte, 3> bytes{};
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  EXPECT_EQ(digest_extra(bytes), (Extra{.lo = hash.low64, .hi = hash.high64}));
}

TEST(Key, HexRoundTrip) {
  const Key key{.lo = 0x00000000deadbeefULL, .hi = 0x0123456789abcdefULL};
  EXPECT_EQ(to_hex(key), "0123456789abcdef00000000deadbeef");
  EXPECT_EQ(key_from_hex(to_hex(key)), key);
  std::mt19937_64 random(3);
  for (int i = 0; i < 1000; ++i) {
    const Key any{.lo = random(), .hi = random()};
    EXPECT_EQ(key_from_hex(to_hex(any)), any);
  }
}

TEST(Key, HexAcceptsNothingElse) {
  const std::string right = "0123456789abcdef00000000deadbeef";
  ASSERT_TRUE(key_from_hex(right));
  EXPECT_FALSE(key_from_hex(""));
  EXPECT_FALSE(key_from_hex(right.substr(1)));
  EXPECT_FALSE(key_from_hex(right + "0"));
  EXPECT_FALSE(key_from_hex("0123456789ABCDEF00000000deadbeef"));
  for (std::size_t i = 0; i < right.size(); ++i) {
    for (const char bad : {'g', ' ', '/', ':', '`', '\0', '\xff'}) {
      std::string wrong = right;
      wrong[i] = bad;
      EXPECT_FALSE(key_from_hex(wrong)) << wrong;
    }
  }
}

}  // namespace
}  // namespace kvfs
