#include "fs/store/id_pool.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <vector>

namespace kvfs::store {
namespace {

std::vector<BlockId> take_chain(IdPool& pool, std::size_t count, BlockId parent = kNoBlock) {
  std::vector<BlockId> ids;
  for (std::size_t i = 0; i < count; ++i) ids.push_back(parent = pool.take(parent));
  return ids;
}

TEST(IdPool, AChainGetsNeighbours) {
  IdPool pool;
  pool.grow(100);
  EXPECT_EQ(take_chain(pool, 3), (std::vector<BlockId>{0, 1, 2}));
  EXPECT_EQ(take_chain(pool, 2), (std::vector<BlockId>{3, 4}));
  EXPECT_EQ(pool.take(2), 5U);  // 3 is taken
  EXPECT_EQ(pool.high(), 6U);
}

TEST(IdPool, HolesAreUsedAsRunsFirst) {
  IdPool pool;
  pool.grow(256);
  take_chain(pool, 128);
  for (const BlockId single : {3U, 30U, 90U}) pool.give_back(single);
  for (BlockId id = 40; id < 48; ++id) pool.give_back(id);
  EXPECT_EQ(take_chain(pool, 8), (std::vector<BlockId>{40, 41, 42, 43, 44, 45, 46, 47}));
  EXPECT_EQ(pool.take(kNoBlock), 128U);  // three holes of 128: chains stay together
}

TEST(IdPool, ManySingleHolesAreUsedBeforeNewMemory) {
  IdPool pool;
  pool.grow(256);
  take_chain(pool, 128);
  for (BlockId id = 0; id < 128; id += 4) pool.give_back(id);
  EXPECT_LT(pool.take(kNoBlock), 128U);
}

TEST(IdPool, GivesEveryIdOnceAndThenNone) {
  IdPool pool;
  pool.grow(100);
  std::set<BlockId> ids;
  for (int i = 0; i < 100; ++i) ids.insert(pool.take(i % 3 == 0 ? kNoBlock : *ids.rbegin()));
  EXPECT_EQ(ids.size(), 100U);
  EXPECT_EQ(*ids.rbegin(), 99U);
  EXPECT_EQ(pool.take(kNoBlock), kNoBlock);
  EXPECT_EQ(pool.take(99), kNoBlock);
  pool.give_back(17);
  EXPECT_EQ(pool.take(50), 17U);
  pool.grow(128);
  EXPECT_EQ(pool.take(99), 100U);
}

TEST(IdPool, ExactIdsLeaveHolesBelow) {
  IdPool pool;
  pool.grow(64);
  EXPECT_TRUE(pool.take_exact(10));
  EXPECT_FALSE(pool.take_exact(10));
  EXPECT_TRUE(pool.take_exact(4));
  EXPECT_FALSE(pool.take_exact(4));
  EXPECT_EQ(pool.high(), 11U);
  std::set<BlockId> rest;
  for (int i = 0; i < 62; ++i) rest.insert(pool.take(kNoBlock));
  EXPECT_EQ(rest.size(), 62U);
  EXPECT_EQ(rest.count(10) + rest.count(4), 0U);
  EXPECT_EQ(pool.take(kNoBlock), kNoBlock);
}

TEST(IdPool, RandomUseNeverGivesAnIdTwice) {
  IdPool pool;
  pool.grow(500);
  std::mt19937 random(1);
  std::set<BlockId> taken;
  for (int i = 0; i < 50000; ++i) {
    if (taken.size() < 500 && random() % 100 < 55) {
      const BlockId parent = taken.empty() || random() % 4 == 0 ? kNoBlock : *taken.rbegin();
      const BlockId id = pool.take(parent);
      ASSERT_LT(id, 500U);
      ASSERT_TRUE(taken.insert(id).second);
    } else if (!taken.empty()) {
      const auto any = std::next(taken.begin(), static_cast<long>(random() % taken.size()));
      pool.give_back(*any);
      taken.erase(any);
    }
  }
}

}  // namespace
}  // namespace kvfs::store
