#include "lib/format/chain_search.h"

#include <gtest/gtest.h>

#include <random>

namespace kvfs {
namespace {

TEST(ChainSearch, FindsTheEndOfWhatIsThere) {
  for (std::size_t blocks = 0; blocks < 40; ++blocks) {
    for (std::size_t there = 0; there <= blocks; ++there) {
      std::size_t looks = 0;
      const auto has = [&](std::size_t i) {
        ++looks;
        return i < there;
      };
      EXPECT_EQ(search_chain(blocks, has), there);
      EXPECT_LE(looks, 8U);
    }
  }
}

TEST(ChainSearch, NeverCutsInTwoWhatIsAddedMeanwhile) {
  std::mt19937 random(1);
  for (int round = 0; round < 20000; ++round) {
    const std::size_t before = random() % 6;
    const std::size_t first_end = before + 1 + random() % 8;
    const std::size_t second_end = first_end + random() % 8;
    const std::size_t asked = 1 + random() % 24;
    // Two additions, one after the other, each from its last block to its first.
    std::size_t first = first_end;
    std::size_t second = second_end;
    const auto step = [&] {
      if (first > before) {
        --first;
      } else if (second > first_end) {
        --second;
      }
    };
    const auto has = [&](std::size_t i) {
      for (auto steps = random() % 6; steps-- > 0;) step();
      return i < before || (i >= first && i < first_end) || (i >= second && i < second_end);
    };
    const std::size_t found = search_chain(asked, has);
    if (found == asked) continue;
    EXPECT_TRUE(found == before || found == first_end || found == second_end)
        << found << " of " << before << ", " << first_end << ", " << second_end;
  }
}

}  // namespace
}  // namespace kvfs
