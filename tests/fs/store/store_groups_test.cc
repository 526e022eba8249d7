#include <algorithm>

#include "tests/fs/store/store_fixture.h"

namespace kvfs::store {
namespace {

// Full attention, and a sliding window of three blocks with smaller ones.
Geometry hybrid() {
  return {.model = "hybrid",
          .dtype = DType::kF32,
          .block_tokens = 8,
          .groups = {{.layers = 1, .kv_heads = 1, .head_dim = 1024},
                     {.layers = 1, .kv_heads = 1, .head_dim = 512, .window = 24}}};
}

// The window alone.
Geometry all_windowed() {
  Geometry windows = hybrid();
  windows.groups.erase(windows.groups.begin());
  return windows;
}

TEST_F(StoreTest, EachGroupHasItsOwnBlocks) {
  open(options(4 * kSlab, 64 << 20));
  const auto ns = space("hybrid", hybrid());
  const auto tokens = prompt(1, 6);
  const auto keys = keys_of(ns->geometry(), tokens);
  ASSERT_OK(put(*ns, tokens));
  EXPECT_OK(check_prefix(*ns, tokens));
  EXPECT_EQ(ns->slabs().size(), 2U);
  EXPECT_EQ(ns->stats().dram_bytes, 6U * (65536 + 32768));
  auto lease = ns->lease(keys.back(), true);
  ASSERT_OK(lease);
  EXPECT_EQ((*lease)->layout().first_block[1], 3U);
  std::array<Extent, 6> extents{};
  EXPECT_EQ(*(*lease)->extents(0, 0, extents), 6U);
  EXPECT_EQ(*(*lease)->extents(1, 3, extents), 3U);
  EXPECT_EQ((*lease)->extents(1, 2, extents).error().code, Code::kInvalid);
  const Status outside = wait_done(
      [&](Done done) { (*lease)->when_resident(1, 0, 1, in_seconds(1), std::move(done)); });
  EXPECT_EQ(outside.error().code, Code::kInvalid);
  lease->reset();
  ASSERT_OK(flush(*ns));
  ASSERT_OK(ns->evict_bytes("dram", 1 << 30));
  EXPECT_EQ(ns->stats().dram_blocks, 0U);
  EXPECT_OK(check_prefix(*ns, tokens));
  EXPECT_EQ(ns->find(keys.back())->nvme_blocks, 6U);
}

TEST_F(StoreTest, AHybridPrefixSurvivesARestart) {
  const auto with = options(4 * kSlab, 64 << 20);
  open(with);
  const auto tokens = prompt(1, 9);
  ASSERT_OK(put(*space("hybrid", hybrid()), tokens));
  ASSERT_OK(store_->close(in_seconds(20), false));
  open(with);
  EXPECT_OK(check_prefix(*store_->find_namespace("hybrid"), tokens));
  ASSERT_OK(store_->close(in_seconds(20), true));
  open(with);
  EXPECT_OK(check_prefix(*store_->find_namespace("hybrid"), tokens));
  EXPECT_GT(store_->find_namespace("hybrid")->stats().dram_blocks, 0U);
}

// Of a model whose layers all have windows, what an imported prefix has no bytes for.
TEST_F(StoreTest, BlocksThatWindowsHavePassedAreRecordedForThoseBehindThem) {
  const auto with = options(4 * kSlab, 64 << 20);
  open(with);
  const Geometry windows = all_windowed();
  const auto ns = space("windows", windows);
  const auto tokens = prompt(1, 9);
  const auto keys = keys_of(windows, tokens);
  {
    auto reservation = ns->reserve();
    std::vector<Extent> extents(keys.size());
    ASSERT_OK(reservation->reserve({}, tokens, {}, extents, in_seconds(20)));
    for (std::uint32_t i = 0; i < keys.size(); ++i) {
      if (i < 6) {
        reservation->leave_out(i, 0);
      } else {
        fill(keys[i], 0, {reservation->address(i, 0), windows.block_bytes(0)});
      }
    }
    ASSERT_OK(reservation->commit(9));
  }
  ASSERT_OK(flush(*ns));
  EXPECT_EQ(ns->stats().nvme_blocks, 3U);
  EXPECT_OK(check_prefix(*ns, tokens));
  for (const bool keep_dram : {false, true}) {
    ASSERT_OK(store_->close(in_seconds(20), keep_dram));
    open(with);
    EXPECT_OK(check_prefix(*store_->find_namespace("windows"), tokens));
  }
}

// What windows have passed has no bytes that could be wanted: it goes with what follows it.
TEST_F(StoreTest, BlocksWithoutBytesLeaveWithTheLastThatFollowsThem) {
  open(options(4 * kSlab, 64 << 20));
  const Geometry windows = all_windowed();
  const auto ns = space("windows", windows);
  const auto tokens = prompt(1, 9);
  const auto keys = keys_of(windows, tokens);
  {
    auto reservation = ns->reserve();
    std::vector<Extent> extents(keys.size());
    ASSERT_OK(reservation->reserve({}, tokens, {}, extents, in_seconds(20)));
    for (std::uint32_t i = 0; i < 6; ++i) reservation->leave_out(i, 0);
    ASSERT_OK(reservation->commit(9));
  }
  ASSERT_OK(flush(*ns));
  {
    // Goes on from there, and so holds it.
    auto reservation = ns->reserve();
    std::vector<Extent> extents(1);
    ASSERT_OK(reservation->reserve(keys[3], prompt(2, 1), {}, extents, in_seconds(20)));
    ASSERT_OK(ns->evict_bytes("nvme", 1 << 30));
    EXPECT_EQ(ns->stats().blocks, 4U);
  }
  ASSERT_OK(ns->evict_bytes("nvme", 1 << 30));
  EXPECT_EQ(ns->stats().blocks, 0U);
}

// In a store without NVMe a windowed group's blocks leave one by one once no window needs them,
// while the full group's stay; what was dropped is stored again by the next writer of that prefix.
TEST_F(StoreTest, BlocksOutsideTheWindowLeaveAlone) {
  auto with = options(3 * kSlab);
  open(with);
  const auto ns = space("hybrid", hybrid());
  const auto tokens = prompt(1, 40);  // 2 slabs of group 0, 1 slab (64 slots) of group 1
  const auto keys = keys_of(ns->geometry(), tokens);
  ASSERT_OK(put(*ns, tokens));
  ASSERT_OK(ns->evict_bytes("dram", 1));  // group 0 first: the tip
  const std::uint64_t before = ns->stats().dram_blocks;
  EXPECT_EQ(before, 2U * 39);
  // Fill group 1's slab: 24 slots are left, and group 0 has 25.
  auto more = prompt(2, 24);
  ASSERT_OK(put(*ns, more));
  auto third = prompt(3, 1);
  ASSERT_OK(put(*ns, third));
  EXPECT_OK(check_prefix(*ns, third));
  const std::uint32_t length = ns->match(keys);
  EXPECT_GT(length, 0U);
  for (const auto& [info, cookie] : [&] {
         std::vector<std::pair<PrefixInfo, std::uint64_t>> tree;
         ns->tree(0, 100, tree);
         return tree;
       }()) {
    auto lease = ns->lease(info.key, true);
    EXPECT_OK(lease);  // every leaf has its window
  }
}

}  // namespace
}  // namespace kvfs::store
