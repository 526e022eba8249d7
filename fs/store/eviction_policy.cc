#include "fs/store/eviction_policy.h"

#include <algorithm>

namespace kvfs::store {

double eviction_value(const EvictionInput& input) {
  const double tokens = input.block_tokens;
  const double cost = tokens * (1.0 + input.depth * tokens / kAttentionTokens);
  // One use for having been stored; a use counts for less the longer ago the last one was. The
  // minute keeps blocks of the same moment from differing by a second's noise.
  const double uses = 1.0 + std::min<std::uint32_t>(input.hits, 64);
  const double chance = uses / (60.0 + input.age_seconds);
  return cost * chance / static_cast<double>(std::max<std::uint64_t>(input.bytes, 1));
}

}  // namespace kvfs::store
