// Prefixes that are brought into DRAM before anybody loads them.
#include <thread>

#include "fs/store/namespace_impl.h"
#include "tests/fs/store/store_fixture.h"

namespace kvfs::store {
namespace {

class PrefetchTest : public StoreTest {
 protected:
  // Of a prefix that is on NVMe only; no read of it ends until faults().thaw().
  std::vector<Key> store_cold(Namespace& space, std::span<const Token> tokens) {
    EXPECT_OK(put(space, tokens));
    EXPECT_OK(flush(space));
    EXPECT_OK(space.evict_bytes("dram", 1 << 30));
    return keys_of(space.geometry(), tokens);
  }
  static std::size_t most_waiters(Namespace& space) {
    NamespaceState& state = *static_cast<NamespaceImpl&>(space).state();
    const MutexLock lock(state.mutex);
    std::size_t most = 0;
    for (const auto& [block, promotion] : state.promotions) {
      most = std::max(most, promotion.waiters.size());
    }
    return most;
  }
  static bool over_in_time(Namespace& space) {
    const auto give_up = in_seconds(20);
    while (space.stats().leases_open != 0 && Clock::now() < give_up) std::this_thread::yield();
    return space.stats().leases_open == 0;
  }
};

TEST_F(PrefetchTest, APrefixThatGrowsIsOnePrefetch) {
  open_with_faults(options(2 * kSlab, 64 << 20));
  const auto ns = space();
  const auto keys = store_cold(*ns, prompt(1, 16));
  faults().freeze();
  for (const Key& key : keys) {
    ASSERT_OK(ns->prefetch(key));
    ASSERT_OK(ns->prefetch(key));
  }
  ASSERT_OK(ns->prefetch(keys[3]));  // within it
  EXPECT_EQ(ns->stats().leases_open, 1U);
  EXPECT_EQ(most_waiters(*ns), 1U);
  faults().thaw();
  EXPECT_TRUE(over_in_time(*ns));
  EXPECT_EQ(ns->stats().dram_blocks, 16U);
}

TEST_F(PrefetchTest, PrefixesWithOneBeginningShareIt) {
  open_with_faults(options(2 * kSlab, 64 << 20));
  const auto ns = space();
  const auto tokens = prompt(1, 12);
  auto branch = tokens;
  branch[8 * 8] += 1;
  ASSERT_OK(put(*ns, branch));
  const auto keys = store_cold(*ns, tokens);
  faults().freeze();
  ASSERT_OK(ns->prefetch(keys.back()));
  ASSERT_OK(ns->prefetch(keys_of(ns->geometry(), branch).back()));
  EXPECT_EQ(ns->stats().leases_open, 2U);
  EXPECT_EQ(most_waiters(*ns), 1U);
  faults().thaw();
  EXPECT_TRUE(over_in_time(*ns));
  EXPECT_EQ(ns->stats().dram_blocks, 16U);
}

// The longer one's window is elsewhere.
TEST_F(PrefetchTest, AShorterPrefixGetsItsOwnWindow) {
  open_with_faults(options(4 * kSlab, 64 << 20));
  Geometry hybrid = small_geometry("hybrid");
  hybrid.groups.push_back({.layers = 1, .kv_heads = 1, .head_dim = 512, .window = 24});
  const auto ns = space("hybrid", hybrid);
  const auto keys = store_cold(*ns, prompt(1, 12));
  faults().freeze();
  ASSERT_OK(ns->prefetch(keys.back()));
  ASSERT_OK(ns->prefetch(keys[4]));
  ASSERT_OK(ns->prefetch(keys[10]));  // two blocks of its window are under way
  EXPECT_EQ(most_waiters(*ns), 1U);
  faults().thaw();
  EXPECT_TRUE(over_in_time(*ns));
  auto lease = ns->lease(keys[4], true);
  ASSERT_OK(lease);
  std::array<Extent, 5> extents{};
  EXPECT_EQ(*(*lease)->extents(0, 0, extents), 5U);
  EXPECT_EQ(*(*lease)->extents(1, 2, extents), 3U);
  auto overlapping = ns->lease(keys[10], true);
  ASSERT_OK(overlapping);
  EXPECT_EQ(*(*overlapping)->extents(1, 8, extents), 3U);
}

TEST_F(PrefetchTest, WhatCouldNotBeReadIsAskedForAnew) {
  open_with_faults(options(2 * kSlab, 64 << 20));
  const auto ns = space();
  const auto keys = store_cold(*ns, prompt(1, 6));
  faults().fail_all(Code::kIo);
  ASSERT_OK(ns->prefetch(keys.back()));
  EXPECT_TRUE(over_in_time(*ns));
  faults().fail_all({});
  // More than once: a read that fails may still be on its way, and then it is joined.
  const auto give_up = in_seconds(20);
  while (ns->stats().dram_blocks != 6 && Clock::now() < give_up) {
    ASSERT_OK(ns->prefetch(keys.back()));
    EXPECT_TRUE(over_in_time(*ns));
  }
  EXPECT_EQ(ns->stats().dram_blocks, 6U);
}

}  // namespace
}  // namespace kvfs::store
