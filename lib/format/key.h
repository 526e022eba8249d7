// Keys: 128 bits that name a prefix (design section 2).
//
//   key(0)   = chain(seed,       tokens of block 0,   extra of block 0)
//   key(i)   = chain(key(i - 1), tokens of block i,   extra of block i)
//   chain(p, t, x) = XXH3-128( p.lo p.hi | t[0..block_tokens) as int32 LE | x.lo x.hi if x is not
//   zero )
//
// The seed is XXH3-128 of the geometry's identity (Geometry::seed), so that equal tokens under two
// models, layouts or salts never share a key.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace kvfs {

using Token = std::int32_t;

struct Key {
  std::uint64_t lo = 0;
  std::uint64_t hi = 0;
  friend constexpr bool operator==(const Key&, const Key&) = default;
  friend constexpr auto operator<=>(const Key&, const Key&) = default;
  [[nodiscard]] constexpr bool is_zero() const { return lo == 0 && hi == 0; }
};
static_assert(sizeof(Key) == 16);

// Digest of the bytes that belong to a block's identity beside its tokens (a LoRA id, an image's
// hash, a tenant's salt for this request): XXH3-128 of them; zero = none.
using Extra = Key;
Extra digest_extra(std::span<const std::byte> bytes);

// The key of the block that follows `parent`.
Key chain_key(const Key& parent, std::span<const Token> block, const Extra& extra = {});

// An extra that applies to one block of a prefix.
struct ExtraAt {
  std::uint32_t block;  // index of the block in the prefix, from 0
  std::uint32_t reserved = 0;
  Extra extra;
};
static_assert(sizeof(ExtraAt) == 24);

// Keys of all full blocks of `tokens` into `keys` (size >= tokens.size() / block_tokens); `extras`
// sorted by block. keys[0, first) are there already: a chain may be computed piece by piece.
// Returns the number of keys that are there then. Allocates nothing.
std::size_t chain_keys(const Key& seed, std::span<const Token> tokens, std::uint32_t block_tokens,
                       std::span<const ExtraAt> extras, std::span<Key> keys, std::size_t first = 0);

// 32 lower-case hex digits, hi first; parse accepts exactly that.
std::string to_hex(const Key& key);
std::optional<Key> key_from_hex(std::string_view hex);

struct KeyHash {
  std::size_t operator()(const Key& key) const noexcept { return static_cast<std::size_t>(key.lo); }
};

}  // namespace kvfs
