// A caller's prompt, checked.
#pragma once

#include <span>

#include <kvfs/kvfs.h>

#include "lib/format/index_view.h"
#include "lib/format/key.h"
#include "lib/format/result.h"

namespace kvfs::client {

// Its full blocks and their extras. Refers to the caller's tokens and to scratch of the calling
// thread, so that reading one allocates nothing once that has grown: valid until the thread's next
// call.
struct Prompt {
  std::span<const Token> tokens;
  std::span<const ExtraAt> extras;
  std::span<const Key> keys;  // fewer than `blocks` where the rest is not cached
  std::uint32_t blocks;
};

// Checks all but the tokens' signs and hashes; `seed` and `block_tokens` are the namespace's. With
// an index, keys that it cannot have are left out.
Result<Prompt> read_prompt(const kvfs_prompt& prompt, const Key& seed, std::uint32_t block_tokens,
                           const IndexView* index = nullptr);

// The keys that read_prompt left out; on the same thread, which has read no other prompt since.
void hash_rest(Prompt& prompt, const Key& seed, std::uint32_t block_tokens);

// Tokens from `first` on are what a token can be. Those that equal stored ones need no check.
Status check_tokens(std::span<const Token> tokens, std::size_t first);

}  // namespace kvfs::client
