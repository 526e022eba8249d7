// Choosing among very many blocks those to evict, by looking at a few.
#pragma once

#include <algorithm>
#include <cstddef>
#include <random>
#include <span>
#include <vector>

#include "lib/format/index_layout.h"

namespace kvfs::store {

// Candidates looked at for each choice; the lowest values of a sample this large are close to the
// lowest of all, at a cost that does not grow with the number of blocks.
inline constexpr std::size_t kEvictionSample = 32;

struct Candidate {
  double value;
  BlockId id;
  friend auto operator<=>(const Candidate&, const Candidate&) = default;
  friend bool operator==(const Candidate&, const Candidate&) = default;
};

// Those of a sample of `ids` (of all of them: `all`) that are eligible, lowest value first.
template <typename Eligible, typename Value>
std::vector<Candidate> sample(std::span<const BlockId> ids, bool all, Eligible eligible,
                              Value value) {
  thread_local std::minstd_rand random{std::random_device{}()};
  std::vector<Candidate> chosen;
  const auto look_at = [&](BlockId id) {
    if (eligible(id)) chosen.push_back({value(id), id});
  };
  if (all || ids.size() <= kEvictionSample) {
    std::ranges::for_each(ids, look_at);
  } else {
    std::uniform_int_distribution<std::size_t> pick(0, ids.size() - 1);
    for (std::size_t i = 0; i < kEvictionSample; ++i) look_at(ids[pick(random)]);
  }
  std::ranges::sort(chosen);
  // A sample may hit the same block twice.
  chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
  return chosen;
}

// Evicts by rounds of sampling while they find something, the lowest quarter of a sample at a time,
// then by one look at everything, until `want` is reached. `list` gives the blocks as they are now;
// `evict` says how much of `want` it gained.
template <typename List, typename Eligible, typename Value, typename Evict>
std::uint64_t evict_lowest(std::uint64_t want, List list, Eligible eligible, Value value,
                           Evict evict) {
  std::uint64_t got = 0;
  while (got < want) {
    std::vector<Candidate> chosen = sample(list(), false, eligible, value);
    std::size_t take = std::max<std::size_t>(1, chosen.size() / 4);
    if (chosen.empty()) {
      chosen = sample(list(), true, eligible, value);
      take = chosen.size();
      if (chosen.empty()) break;
    }
    for (std::size_t i = 0; i < take && got < want; ++i) {
      if (eligible(chosen[i].id)) got += evict(chosen[i].id);
    }
  }
  return got;
}

}  // namespace kvfs::store
