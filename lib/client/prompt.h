// A caller's prompt, checked.
#pragma once

#include <span>

#include <kvfs/kvfs.h>

#include "lib/format/key.h"
#include "lib/format/result.h"

namespace kvfs::client {

// Its full blocks and their extras. Refers to the caller's tokens and to scratch of the calling
// thread, so that reading one allocates nothing once that has grown: valid until the thread's next
// call.
struct Prompt {
  std::span<const Token> tokens;
  std::span<const ExtraAt> extras;
  std::span<const Key> keys;

  [[nodiscard]] std::uint32_t blocks() const { return static_cast<std::uint32_t>(keys.size()); }
};

// Checks and hashes; `seed` and `block_tokens` are the namespace's.
Result<Prompt> read_prompt(const kvfs_prompt& prompt, const Key& seed, std::uint32_t block_tokens);

}  // namespace kvfs::client
