// DRAM that a namespace has ahead of its blocks: how much, and who gets it in the end.

#include <algorithm>

#include "tests/fs/store/store_fixture.h"

namespace kvfs::store {
namespace {

class StoreProvide : public StoreTest {
 protected:
  void SetUp() override { open(options(8 * kSlab)); }

  static std::uint64_t slabs_of(const Namespace& space) {
    std::uint64_t slabs = 0;
    for (const SlabInfo& slab : space.slabs()) slabs += slab.retiring == 0 ? 1 : 0;
    return slabs;
  }
  static std::uint64_t provided(Namespace& space, std::uint64_t bytes) {
    const auto has = space.provide(bytes);
    EXPECT_OK(has);
    return has.value_or(0) / kSlab;
  }
};

TEST_F(StoreProvide, SlabsAreThereBeforeBlocksAndTheseGoIntoThem) {
  const auto ns = space();
  EXPECT_EQ(provided(*ns, 3 * kSlab), 3U);
  EXPECT_EQ(slabs_of(*ns), 3U);
  EXPECT_EQ(store_->stats().dram.used, 0U);
  ASSERT_OK(put(*ns, prompt(1, 96)));  // 32 to a slab
  EXPECT_EQ(slabs_of(*ns), 3U);
  EXPECT_OK(check_prefix(*ns, prompt(1, 96)));
}

TEST_F(StoreProvide, ItIsOfAllTheNamespaceHasAndInWholeSlabs) {
  const auto ns = space();
  ASSERT_OK(put(*ns, prompt(1, 40)));  // two slabs
  EXPECT_EQ(provided(*ns, kSlab), 2U);
  EXPECT_EQ(provided(*ns, 2 * kSlab + 1), 3U);
  EXPECT_EQ(provided(*ns, 0), 3U);
}

TEST_F(StoreProvide, HalfIsOfWhatNobodyElseHas) {
  const auto ns = space();
  EXPECT_EQ(provided(*ns, kProvideHalf), 4U);
  EXPECT_EQ(provided(*ns, kProvideHalf), 4U);  // a second engine's
  EXPECT_EQ(provided(*space("other", small_geometry("other")), kProvideHalf), 2U);
}

TEST_F(StoreProvide, NoMoreThanThereIsAndNothingIsTaken) {
  const auto ns = space();
  const auto other = space("other", small_geometry("other"));
  ASSERT_OK(put(*other, prompt(2, 40)));
  EXPECT_EQ(provided(*ns, 100 * kSlab), 6U);
  EXPECT_EQ(slabs_of(*other), 2U);
  EXPECT_TRUE(cached(*other, prompt(2, 40)));
}

TEST_F(StoreProvide, WhoNeedsRoomGetsItBeforeAnythingIsEvicted) {
  const auto ns = space();
  const auto other = space("other", small_geometry("other"));
  ASSERT_OK(put(*ns, prompt(1, 16)));
  ASSERT_OK(put(*other, prompt(2, 16)));
  ASSERT_EQ(provided(*ns, 100 * kSlab), 7U);
  ASSERT_OK(put(*other, prompt(3, 32 * 7 - 16)));  // all but the slab that has blocks of `ns`
  EXPECT_TRUE(cached(*ns, prompt(1, 16)));
  EXPECT_TRUE(cached(*other, prompt(2, 16)));
  EXPECT_TRUE(cached(*other, prompt(3, 32 * 7 - 16)));
  EXPECT_EQ(slabs_of(*ns), 1U);
}

TEST_F(StoreProvide, WhatClientsMapIsTakenOneAtATimeAsTheyLetGo) {
  const auto ns = space();
  const auto other = space("other", small_geometry("other"));
  ASSERT_OK(put(*other, prompt(2, 16)));
  ASSERT_EQ(provided(*ns, 100 * kSlab), 7U);
  for (const SlabInfo& slab : ns->slabs()) ns->count_slab_open(slab.id, +1);
  ASSERT_OK(put(*other, prompt(3, 20)));  // the older one leaves: a slab is not there yet
  EXPECT_EQ(slabs_of(*ns), 6U);
  for (const SlabInfo& slab : ns->slabs()) {
    if (slab.retiring != 0) ns->count_slab_open(slab.id, -1);
  }
  EXPECT_EQ(ns->slabs().size(), 6U);
  ASSERT_OK(put(*other, prompt(4, 40)));
  EXPECT_TRUE(cached(*other, prompt(3, 20)));
}

TEST_F(StoreProvide, EachGroupHasItsShare) {
  Geometry geometry = small_geometry("hybrid");
  geometry.groups.push_back({.layers = 3, .kv_heads = 1, .head_dim = 1024, .window = 16});
  const auto ns = space("hybrid", geometry);
  EXPECT_EQ(provided(*ns, 8 * kSlab), 8U);
  std::vector<std::uint32_t> groups;
  for (const SlabInfo& slab : ns->slabs()) groups.push_back(slab.group);
  EXPECT_EQ(std::ranges::count(groups, 0U), 2);
  EXPECT_EQ(std::ranges::count(groups, 1U), 6);
}

TEST_F(StoreProvide, ManyGroupsHaveNoMoreThanTheirHalf) {
  Geometry geometry = small_geometry("hybrid");
  for (int i = 0; i < 5; ++i) geometry.groups.push_back(geometry.groups.front());
  EXPECT_EQ(provided(*space("hybrid", geometry), kProvideHalf), 4U);
}

TEST_F(StoreProvide, SlabsThatNoClientHasOpenAreTakenFirst) {
  const auto ns = space();
  const auto other = space("other", small_geometry("other"));
  ASSERT_EQ(provided(*ns, 100 * kSlab), 8U);
  std::vector<std::uint32_t> opened;
  for (const SlabInfo& slab : ns->slabs()) {
    if (opened.size() == 5) break;
    opened.push_back(slab.id);
    ns->count_slab_open(slab.id, +1);
  }
  ASSERT_OK(put(*other, prompt(2, 96)));  // three slabs
  EXPECT_EQ(slabs_of(*other), 3U);
  for (const SlabInfo& slab : ns->slabs()) EXPECT_TRUE(std::ranges::count(opened, slab.id) == 1);
}

// Who has got the first of several slabs keeps it while the next one is let go of.
TEST_F(StoreProvide, WhatASlabsOwnerHasJustFreedIsNotTaken) {
  const auto ns = space();
  const auto other = space("other", small_geometry("other"));
  ASSERT_OK(put(*other, prompt(2, 16)));
  ASSERT_OK(other->evict(keys_of(other->geometry(), prompt(2, 16)).back()));
  ASSERT_OK(put(*ns, prompt(1, 32 * 7)));
  ASSERT_OK(put(*ns, prompt(3, 16)));  // evicts of its own
  EXPECT_EQ(slabs_of(*other), 1U);
}

TEST_F(StoreProvide, ARemovedNamespaceHasNothing) {
  const auto ns = space();
  ASSERT_EQ(provided(*ns, 2 * kSlab), 2U);
  ASSERT_OK(store_->remove_namespace("ns", RemoveIf::kNotInUse));
  EXPECT_EQ(store_->stats().dram.reserved, 0U);
  const auto has = ns->provide(2 * kSlab);
  ASSERT_FALSE(has.has_value());
  EXPECT_EQ(has.error().code, Code::kNotFound);
  EXPECT_EQ(store_->stats().dram.reserved, 0U);
}

}  // namespace
}  // namespace kvfs::store
