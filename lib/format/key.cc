#include "lib/format/key.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

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

}  // namespace

Extra digest_extra(std::span<const std::byte> bytes) {
  return bytes.empty() ? Extra{} : to_key(XXH3_128bits(bytes.data(), bytes.size()));
}

Key chain_key(const Key& parent, std::span<const Token> block, const Extra& extra) {
  std::array<std::byte, kMaxChainBytes> input;
  const std::size_t tokens = std::min<std::size_t>(block.size(), kMaxBlockTokens);
  std::byte* end = input.data();
  const auto append = [&end](const void* bytes, std::size_t count) {
    std::memcpy(end, bytes, count);
    end += count;
  };
  append(&parent, sizeof(parent));
  append(block.data(), tokens * sizeof(Token));
  if (!extra.is_zero()) append(&extra, sizeof(extra));
  return to_key(XXH3_128bits(input.data(), static_cast<std::size_t>(end - input.data())));
}

std::size_t chain_keys(const Key& seed, std::span<const Token> tokens, std::uint32_t block_tokens,
                       std::span<const ExtraAt> extras, std::span<Key> keys) {
  const std::size_t blocks = std::min(tokens.size() / block_tokens, keys.size());
  Key parent = seed;
  for (std::size_t i = 0; i < blocks; ++i) {
    while (!extras.empty() && extras.front().block < i) extras = extras.subspan(1);
    const bool has_extra = !extras.empty() && extras.front().block == i;
    parent = chain_key(parent, tokens.subspan(i * block_tokens, block_tokens),
                       has_extra ? extras.front().extra : Extra{});
    keys[i] = parent;
  }
  return blocks;
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
