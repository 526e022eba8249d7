#include "fs/tiers/slot_bitmap.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace kvfs::tiers {
namespace {

TEST(SlotBitmap, HandsOutOneLongRun) {
  SlotBitmap slots(200);
  const SlotRun first = slots.take_run(100);
  EXPECT_EQ(first.first, 0U);
  EXPECT_EQ(first.count, 100U);
  EXPECT_EQ(slots.take_run(101).count, 0U);
  EXPECT_EQ(slots.take_run(100).first, 100U);
  EXPECT_EQ(slots.free(), 0U);
  EXPECT_EQ(slots.take_some(1).count, 0U);
}

TEST(SlotBitmap, PrefersAWholeRunToTheFirstHole) {
  SlotBitmap slots(130);
  ASSERT_EQ(slots.take_run(130).count, 130U);
  for (const std::uint32_t slot : {3U, 4U, 70U, 71U, 72U, 73U}) EXPECT_TRUE(slots.release(slot));
  const SlotRun run = slots.take_run(4);
  EXPECT_EQ(run.first, 70U);
  EXPECT_EQ(run.count, 4U);
  EXPECT_EQ(slots.take_run(3).count, 0U);
  EXPECT_EQ(slots.take_some(3).count, 2U);
}

TEST(SlotBitmap, NeverHandsOutSlotsBehindTheLast) {
  for (const std::uint32_t size : {1U, 63U, 64U, 65U, 127U, 129U}) {
    SlotBitmap slots(size);
    std::set<std::uint32_t> seen;
    for (SlotRun run = slots.take_some(7); run.count != 0; run = slots.take_some(7)) {
      for (std::uint32_t i = 0; i < run.count; ++i) {
        EXPECT_LT(run.first + i, size);
        EXPECT_TRUE(seen.insert(run.first + i).second);
      }
    }
    EXPECT_EQ(seen.size(), size);
    EXPECT_FALSE(slots.take(size));
    EXPECT_FALSE(slots.release(size));
  }
}

TEST(SlotBitmap, TakesAndReleasesOnce) {
  SlotBitmap slots(70);
  EXPECT_TRUE(slots.take(69));
  EXPECT_FALSE(slots.take(69));
  EXPECT_TRUE(slots.taken(69));
  EXPECT_TRUE(slots.release(69));
  EXPECT_FALSE(slots.release(69));
  EXPECT_EQ(slots.used(), 0U);
}

// Against a plain set, with random sizes and releases.
TEST(SlotBitmap, AgreesWithASimpleModel) {
  std::mt19937 random(7);
  SlotBitmap slots(1000);
  std::set<std::uint32_t> taken;
  for (int step = 0; step < 20000; ++step) {
    if (random() % 2 == 0) {
      const std::uint32_t want = static_cast<std::uint32_t>(random() % 20) + 1;
      SlotRun run = slots.take_run(want);
      if (run.count == 0) {
        std::uint32_t longest = 0;
        for (std::uint32_t slot = 0, length = 0; slot < 1000; ++slot) {
          length = taken.contains(slot) ? 0 : length + 1;
          longest = std::max(longest, length);
        }
        ASSERT_LT(longest, want);
        run = slots.take_some(want);
        ASSERT_EQ(run.count == 0, taken.size() == 1000);
      }
      for (std::uint32_t i = 0; i < run.count; ++i) ASSERT_TRUE(taken.insert(run.first + i).second);
    } else if (!taken.empty()) {
      auto at = taken.lower_bound(static_cast<std::uint32_t>(random() % 1000));
      if (at == taken.end()) at = taken.begin();
      ASSERT_TRUE(slots.release(*at));
      taken.erase(at);
    }
    ASSERT_EQ(slots.used(), taken.size());
  }
}

}  // namespace
}  // namespace kvfs::tiers
