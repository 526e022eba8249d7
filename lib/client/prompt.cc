#include "lib/client/prompt.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "lib/format/prefix_file.h"

namespace kvfs::client {
namespace {

// Hashed before the index is asked whether that was worth it.
constexpr std::size_t kPieceBlocks = 64;

struct Scratch {
  std::vector<Key> keys;
  std::vector<ExtraAt> extras;
};
Scratch& scratch() {
  thread_local Scratch instance;
  return instance;
}

// Grows only: a prompt that is shorter than an earlier one allocates nothing.
template <typename T>
std::span<T> room_for(std::vector<T>& vector, std::size_t count) {
  if (vector.size() < count) vector.resize(std::max(count, 2 * vector.size()));
  return std::span(vector).first(count);
}

// The sign bits of all tokens at once, two a word.
bool any_negative(std::span<const Token> tokens) {
  std::uint64_t a = 0, b = 0, c = 0, d = 0;
  std::size_t i = 0;
  for (; i + 8 <= tokens.size(); i += 8) {
    std::uint64_t words[4];
    std::memcpy(words, tokens.data() + i, sizeof(words));
    a |= words[0];
    b |= words[1];
    c |= words[2];
    d |= words[3];
  }
  bool negative = ((a | b | c | d) & 0x8000000080000000ULL) != 0;
  for (; i < tokens.size(); ++i) negative |= tokens[i] < 0;
  return negative;
}

Result<std::span<const ExtraAt>> read_extras(const kvfs_prompt& prompt) {
  if (prompt.extra_count == 0) return std::span<const ExtraAt>{};
  if (prompt.extras == nullptr) return fail(Code::kInvalid, "extras is NULL, extra_count is not 0");
  const std::span<ExtraAt> extras = room_for(scratch().extras, prompt.extra_count);
  for (std::size_t i = 0; i < prompt.extra_count; ++i) {
    const kvfs_extra& extra = prompt.extras[i];
    if (i > 0 && extra.block <= extras[i - 1].block) {
      return fail(Code::kInvalid, "extras[" + std::to_string(i) + "] is for block " +
                                      std::to_string(extra.block) +
                                      ": sort extras by block, one for each");
    }
    if (extra.bytes == nullptr && extra.bytes_size > 0) {
      return fail(Code::kInvalid, "extras[" + std::to_string(i) + "].bytes is NULL");
    }
    extras[i] = {
        .block = extra.block,
        .extra = digest_extra({static_cast<const std::byte*>(extra.bytes), extra.bytes_size})};
  }
  return std::span<const ExtraAt>(extras);
}

// Keys as far as the index may have them: prefixes are closed under shortening, so what goes on
// from a block that is not there is not there either. Returns how many.
std::size_t chain_cached(const IndexView& index, const Key& seed, std::span<const Token> tokens,
                         std::uint32_t block_tokens, std::span<const ExtraAt> extras,
                         std::span<Key> keys) {
  std::size_t asked = 0;  // the key before it is on its way while the next piece is hashed
  for (std::size_t done = 0; done < keys.size();) {
    const std::size_t end = std::min(done + kPieceBlocks, keys.size());
    done = chain_keys(seed, tokens, block_tokens, extras, keys.first(end), done);
    if (asked != 0 && !index.probably_has(keys[asked - 1])) return asked - 1;
    asked = done;
    index.fetch(keys[asked - 1]);
  }
  return keys.size();
}

}  // namespace

Result<Prompt> read_prompt(const kvfs_prompt& prompt, const Key& seed, std::uint32_t block_tokens,
                           const IndexView* index) {
  if (prompt.tokens == nullptr && prompt.token_count > 0) {
    return fail(Code::kInvalid, "tokens is NULL, token_count is not 0");
  }
  const std::size_t blocks = prompt.token_count / block_tokens;
  if (blocks > kMaxPrefixBlocks) {
    return fail(Code::kInvalid, "token_count is " + std::to_string(prompt.token_count) +
                                    ": a prefix has at most " + std::to_string(kMaxPrefixBlocks) +
                                    " blocks");
  }
  const std::span<const Token> tokens(prompt.tokens, blocks * block_tokens);
  const Result<std::span<const ExtraAt>> extras = read_extras(prompt);
  if (!extras) return tl::unexpected<Error>(extras.error());
  const std::span<Key> keys = room_for(scratch().keys, blocks);
  const std::size_t hashed = index == nullptr
                                 ? chain_keys(seed, tokens, block_tokens, *extras, keys)
                                 : chain_cached(*index, seed, tokens, block_tokens, *extras, keys);
  return Prompt{.tokens = tokens,
                .extras = *extras,
                .keys = keys.first(hashed),
                .blocks = static_cast<std::uint32_t>(blocks)};
}

void hash_rest(Prompt& prompt, const Key& seed, std::uint32_t block_tokens) {
  const std::span<Key> keys = room_for(scratch().keys, prompt.blocks);
  chain_keys(seed, prompt.tokens, block_tokens, prompt.extras, keys, prompt.keys.size());
  prompt.keys = keys;
}

Status check_tokens(std::span<const Token> tokens, std::size_t first) {
  if (!any_negative(tokens.subspan(first))) return {};
  const auto found = std::ranges::find_if(tokens, [](Token token) { return token < 0; });
  return fail(Code::kInvalid, "tokens[" + std::to_string(found - tokens.begin()) + "] is " +
                                  std::to_string(*found) + ": token ids are 0 to 2147483647");
}

}  // namespace kvfs::client
