#include "lib/format/key.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <type_traits>

#include "lib/format/geometry.h"

// Inlined: the chain is a few nanoseconds a block, a call through the PLT would show.
#define XXH_INLINE_ALL
#include <xxhash.h>

namespace kvfs {
namespace {

static_assert(std::endian::native == std::endian::little, "keys hash little-endian tokens");

constexpr std::size_t kMaxChainBytes =
    sizeof(Key) + sizeof(Token) * kMaxBlockTokens + sizeof(Extra);

Key to_key(const XXH128_hash_t& hash) { return {.lo = hash.low64, .hi = hash.high64}; }

// The rare link; kept out of the loop below.
[[gnu::noinline]] Key chain_with_extra(const Key& parent, std::span<const Token> block,
                                       const Extra& extra) {
  std::array<std::byte, kMaxChainBytes> input;
  std::byte* end = input.data();
  std::memcpy(end, &parent, sizeof(parent));
  end += sizeof(parent);
  std::memcpy(end, block.data(), block.size_bytes());
  end += block.size_bytes();
  std::memcpy(end, &extra, sizeof(extra));
  end += sizeof(extra);
  return to_key(XXH3_128bits(input.data(), static_cast<std::size_t>(end - input.data())));
}

// `Count` is a number, or an integral_constant: with a length known to the compiler a link takes
// less than half the time.
template <typename Count>
Key chain_tokens(const Key& parent, const Token* block, Count tokens) {
  std::array<std::byte, kMaxChainBytes> input;
  std::memcpy(input.data(), &parent, sizeof(parent));
  std::memcpy(input.data() + sizeof(parent), block, tokens * sizeof(Token));
  return to_key(XXH3_128bits(input.data(), sizeof(parent) + tokens * sizeof(Token)));
}

// Keys of `count` blocks without extras. By itself, so that the parent stays in registers: one link
// waits for the other.
template <typename Count>
[[gnu::flatten, gnu::noinline]] Key chain_run(Key parent, const Token* tokens, Count block_tokens,
                                              Key* keys, std::size_t count) {
  for (Key* const end = keys + count; keys != end; ++keys, tokens += block_tokens) {
    parent = chain_tokens(parent, tokens, block_tokens);
    *keys = parent;
  }
  return parent;
}

template <typename Count>
std::size_t chain_all(const Key& seed, std::span<const Token> tokens, Count block_tokens,
                      std::span<const ExtraAt> extras, std::span<Key> keys, std::size_t first) {
  const std::size_t blocks = std::min(tokens.size() / block_tokens, keys.size());
  std::size_t done = std::min(first, blocks);
  Key parent = done == 0 ? seed : keys[done - 1];
  const auto run_to = [&](std::size_t end) {
    parent = chain_run(parent, tokens.data() + done * block_tokens, block_tokens, &keys[done],
                       end - done);
    done = end;
  };
  const auto from = std::ranges::lower_bound(extras, done, {}, &ExtraAt::block);
  for (const ExtraAt& at : extras.subspan(static_cast<std::size_t>(from - extras.begin()))) {
    if (at.block >= blocks) break;
    if (at.block < done || at.extra.is_zero()) continue;
    if (at.block > done) run_to(at.block);
    parent = chain_with_extra(parent, tokens.subspan(done * block_tokens, block_tokens), at.extra);
    keys[done++] = parent;
  }
  if (done < blocks) run_to(blocks);
  return blocks;
}

template <std::size_t kTokens>
using Tokens = std::integral_constant<std::size_t, kTokens>;

}  // namespace

Extra digest_extra(std::span<const std::byte> bytes) {
  return bytes.empty() ? Extra{} : to_key(XXH3_128bits(bytes.data(), bytes.size()));
}

Key chain_key(const Key& parent, std::span<const Token> block, const Extra& extra) {
  block = block.first(std::min<std::size_t>(block.size(), kMaxBlockTokens));
  return extra.is_zero() ? chain_tokens(parent, block.data(), block.size())
                         : chain_with_extra(parent, block, extra);
}

std::size_t chain_keys(const Key& seed, std::span<const Token> tokens, std::uint32_t block_tokens,
                       std::span<const ExtraAt> extras, std::span<Key> keys, std::size_t first) {
  switch (block_tokens) {
    case 16:
      return chain_all(seed, tokens, Tokens<16>{}, extras, keys, first);
    case 32:
      return chain_all(seed, tokens, Tokens<32>{}, extras, keys, first);
    default:
      return chain_all(seed, tokens, std::size_t{block_tokens}, extras, keys, first);
  }
}

std::string to_hex(const Key& key) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string hex(32, '0');
  for (std::size_t i = 0; i < 16; ++i) {
    hex[15 - i] = kDigits[(key.hi >> (4 * i)) & 15];
    hex[31 - i] = kDigits[(key.lo >> (4 * i)) & 15];
  }
  return hex;
}

std::optional<Key> key_from_hex(std::string_view hex) {
  if (hex.size() != 32) return std::nullopt;
  Key key;
  for (std::size_t i = 0; i < 32; ++i) {
    const char c = hex[i];
    std::uint64_t digit = 0;
    if (c >= '0' && c <= '9') {
      digit = static_cast<std::uint64_t>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      digit = static_cast<std::uint64_t>(c - 'a') + 10;
    } else {
      return std::nullopt;
    }
    std::uint64_t& half = i < 16 ? key.hi : key.lo;
    half = half << 4 | digit;
  }
  return key;
}

}  // namespace kvfs
