// Which block leaves first: the one whose loss costs least per byte for how likely it is to be
// asked for.
#pragma once

#include <cstdint>

namespace kvfs::store {

struct EvictionInput {
  std::uint32_t depth;  // block's index in its prefix
  std::uint32_t block_tokens;
  std::uint32_t hits;
  std::uint32_t age_seconds;  // since the last hit (or since it was stored)
  std::uint64_t bytes;
};

// Recomputing block d of a prefix costs its tokens' share of the dense layers plus attention over
// everything before it: cost ~ block_tokens * (1 + d * block_tokens / kAttentionTokens), where at
// kAttentionTokens tokens attention costs as much as the rest. Its chance of being asked for falls
// with age and grows with hits. Lowest value leaves first.
inline constexpr double kAttentionTokens = 32768;
double eviction_value(const EvictionInput& input);

}  // namespace kvfs::store
