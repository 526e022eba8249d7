#include "lib/client/prompt.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "lib/format/prefix_file.h"

namespace kvfs::client {
namespace {

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

tl::unexpected<Error> negative_token(std::span<const Token> tokens) {
  const auto found = std::ranges::find_if(tokens, [](Token token) { return token < 0; });
  return fail(Code::kInvalid, "tokens[" + std::to_string(found - tokens.begin()) + "] is " +
                                  std::to_string(*found) + ": token ids are 0 to 2147483647");
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

}  // namespace

Result<Prompt> read_prompt(const kvfs_prompt& prompt, const Key& seed, std::uint32_t block_tokens) {
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
  if (any_negative(tokens)) return negative_token(tokens);
  const Result<std::span<const ExtraAt>> extras = read_extras(prompt);
  if (!extras) return tl::unexpected<Error>(extras.error());
  const std::span<Key> keys = room_for(scratch().keys, blocks);
  chain_keys(seed, tokens, block_tokens, *extras, keys);
  return Prompt{.tokens = tokens, .extras = *extras, .keys = keys};
}

}  // namespace kvfs::client
