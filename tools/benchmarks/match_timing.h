// Times of longest-prefix matches, and of the hashing that none can do without.
#pragma once

#include <kvfs/kvfs.h>

#include <cstdint>
#include <functional>
#include <string>

#include "tools/benchmarks/benches.h"

namespace kvfs::bench {

inline constexpr std::uint32_t kLongPromptBlocks = 2048;  // 32,768 tokens

// Stores prompts 0, 1, ... of up to kLongPromptBlocks blocks each until there are `blocks`. Calls
// `pause` after every kPauseBlocks.
inline constexpr std::uint64_t kPauseBlocks = 32768;
Status fill_prompts(kvfs_client* client, std::uint64_t blocks,
                    const std::function<Status()>& pause);

// Matches prompts of 32k tokens out of those fill_prompts() stored and emits <row> (p50) and
// <row>_p99, in microseconds; the limit is the XXH3 chain over the same tokens.
Status time_matches(kvfs_client* client, const std::string& row, std::uint64_t blocks, bool quick,
                    const Emit& emit);

}  // namespace kvfs::bench
