#include "fs/store/catalog.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <filesystem>
#include <numeric>

#include "tests/fs/store/catalog_fixture.h"

namespace kvfs::store {
namespace {

using test::block_key;
using test::insert;
using test::insert_chain;
using test::match;
using test::one_group;
using test::open_catalog;
using test::two_groups;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

class CatalogTest : public testing::Test {
 protected:
  std::vector<BlockId> chain_to(BlockId tip) {
    std::vector<BlockId> ids;
    catalog->chain(tip, ids);
    return ids;
  }
  Match match_first(std::uint32_t blocks) {
    std::vector<std::uint32_t> numbers(blocks);
    std::iota(numbers.begin(), numbers.end(), 0);
    return match(catalog->index(), geometry, numbers);
  }

  kvfs::test::TempDirectory directory{"/dev/shm"};
  Geometry geometry = two_groups();
  std::unique_ptr<Catalog> catalog = open_catalog(directory.path(), geometry);
  std::vector<Placement> freed;
  std::vector<BlockId> freed_ids;
};

TEST_F(CatalogTest, ABlockIsWhatWasInserted) {
  const BlockId root = *insert(*catalog, geometry, {.number = 5});
  const BlockId child = *insert(
      *catalog, geometry,
      {.parent = root, .number = 6, .extra = {.lo = 1}, .flags = kNodePinned | kNodeJournaled});
  EXPECT_EQ(catalog->key(child), block_key(catalog->key(root), 6, {.lo = 1}));
  EXPECT_EQ(catalog->find(catalog->key(child)), child);
  EXPECT_EQ(catalog->parent(child), root);
  EXPECT_EQ(catalog->parent(root), kNoBlock);
  EXPECT_EQ(catalog->depth(child), 1U);
  EXPECT_EQ(catalog->extra(child), (Extra{.lo = 1}));
  EXPECT_EQ(catalog->groups(child), 3U);
  EXPECT_THAT(catalog->tokens(child), testing::ElementsAreArray(test::block_tokens(6)));
  EXPECT_EQ(catalog->placement(child, 1).dram, (tiers::DramSlot{.slab = 1, .slot = 13}));
  EXPECT_EQ(catalog->node(child).flags, kNodeLive | kNodePinned | kNodeJournaled);
  EXPECT_EQ(catalog->node(child).stored_at, 1000U);
  EXPECT_EQ(catalog->node(child).last_hit, 1000U);
  EXPECT_EQ(catalog->node(root).children, 1U);
  EXPECT_EQ(catalog->blocks(), 2U);
  EXPECT_THAT(chain_to(child), ElementsAre(root, child));
  EXPECT_THAT(catalog->leaf_list(), ElementsAre(child));
}

TEST_F(CatalogTest, RefusesWhatCannotBe) {
  const BlockId root = *insert(*catalog, geometry, {.number = 5});
  const Result<BlockId> twice = insert(*catalog, geometry, {.number = 5});
  ASSERT_FALSE(twice);
  EXPECT_EQ(twice.error().code, Code::kExists);
  EXPECT_THAT(twice.error().message, HasSubstr(to_hex(catalog->key(root))));

  ASSERT_TRUE(catalog->remove(root, freed));
  const Result<BlockId> orphan = insert(*catalog, geometry, {.parent = root, .number = 6});
  ASSERT_FALSE(orphan);
  EXPECT_EQ(orphan.error().code, Code::kNotFound);
  EXPECT_THAT(orphan.error().message, HasSubstr("store the prefix again"));

  const std::vector<Token> three(3);
  const Result<BlockId> short_block = test::insert(*catalog, {.key = {.lo = 1}, .tokens = three});
  ASSERT_FALSE(short_block);
  EXPECT_EQ(short_block.error().code, Code::kInvalid);
  EXPECT_EQ(catalog->blocks(), 0U);
}

TEST_F(CatalogTest, WhatIsPreparedIsFoundWhenItIsPublished) {
  const BlockId root = *insert(*catalog, geometry, {.number = 0});
  const auto prepared = [&] {
    std::vector<BlockId> ids;
    for (std::uint32_t i = 1; i < 4; ++i) {
      ids.push_back(
          *test::prepare(*catalog, geometry, {.parent = i == 1 ? root : ids.back(), .number = i}));
    }
    return ids;
  };
  const std::vector<BlockId> given_up = prepared();
  EXPECT_EQ(match_first(4).blocks, 1U);
  EXPECT_EQ(catalog->blocks(), 1U);
  EXPECT_THAT(catalog->leaf_list(), ElementsAre(root));
  catalog->discard(given_up);
  EXPECT_THAT(catalog->resident(0), ElementsAre(root));
  const Result<BlockId> orphan = insert(*catalog, geometry, {.parent = given_up[0], .number = 9});
  ASSERT_FALSE(orphan);
  EXPECT_EQ(orphan.error().code, Code::kNotFound);

  const std::vector<BlockId> ids = prepared();
  EXPECT_THAT(ids, testing::UnorderedElementsAreArray(given_up));
  catalog->publish(ids);
  EXPECT_EQ(match_first(4).blocks, 4U);
  EXPECT_EQ(catalog->blocks(), 4U);
  EXPECT_THAT(catalog->leaf_list(), ElementsAre(ids[2]));
  EXPECT_EQ(catalog->resident(0).size(), 4U);
  EXPECT_TRUE(catalog->remove(ids[2], freed));
  EXPECT_THAT(catalog->leaf_list(), ElementsAre(ids[1]));
}

TEST_F(CatalogTest, RemovalGoesFromTheTip) {
  const std::vector<BlockId> ids = insert_chain(*catalog, geometry, 4);
  const BlockId branch = *insert(*catalog, geometry, {.parent = ids[1], .number = 50});
  EXPECT_THAT(catalog->leaf_list(), UnorderedElementsAre(ids[3], branch));
  EXPECT_TRUE(catalog->remove(ids[3], freed));
  EXPECT_THAT(catalog->leaf_list(), UnorderedElementsAre(ids[2], branch));
  EXPECT_TRUE(catalog->remove(ids[2], freed));
  EXPECT_THAT(catalog->leaf_list(), ElementsAre(branch));  // ids[1] has another child
  EXPECT_EQ(match_first(4).blocks, 2U);
  EXPECT_EQ(freed.size(), 4U);
  EXPECT_EQ(freed[0].dram.slot, 6U);
  EXPECT_TRUE(catalog->remove(branch, freed));
  EXPECT_TRUE(catalog->remove(ids[1], freed));
  EXPECT_TRUE(catalog->remove(ids[0], freed));
  EXPECT_THAT(catalog->leaf_list(), IsEmpty());
  EXPECT_THAT(catalog->resident(0), IsEmpty());
  EXPECT_EQ(catalog->blocks(), 0U);
}

TEST_F(CatalogTest, AnIdIsUsedAgainOnlyWhenRecycled) {
  const BlockId first = *insert(*catalog, geometry, {.number = 1});
  catalog->remove(first, freed);
  EXPECT_NE(*insert(*catalog, geometry, {.number = 2}), first);
  catalog->recycle(first);
  std::vector<BlockId> ids;
  for (std::uint32_t i = 3; i < 18; ++i) ids.push_back(*insert(*catalog, geometry, {.number = i}));
  EXPECT_THAT(ids, testing::Contains(first));
}

TEST_F(CatalogTest, ALeasedBlockIsDoomedUntilReleased) {
  const std::vector<BlockId> ids = insert_chain(*catalog, geometry, 2);
  catalog->acquire(ids);
  catalog->acquire(ids);
  EXPECT_FALSE(catalog->remove(ids[1], freed));
  EXPECT_EQ(catalog->node(ids[1]).flags, kNodeDoomed);
  EXPECT_EQ(catalog->find(catalog->key(ids[1])), kNoBlock);
  EXPECT_EQ(match_first(2).blocks, 1U);
  EXPECT_EQ(catalog->blocks(), 1U);
  // It can be stored again meanwhile, as another block.
  const BlockId again = *insert(*catalog, geometry, {.parent = ids[0], .number = 1});
  EXPECT_NE(again, ids[1]);
  EXPECT_EQ(catalog->placement(ids[1], 0).dram.slot, 2U);

  catalog->release(ids, freed, freed_ids);
  EXPECT_THAT(freed, IsEmpty());
  catalog->release(ids, freed, freed_ids);
  EXPECT_THAT(freed_ids, ElementsAre(ids[1]));
  ASSERT_EQ(freed.size(), 2U);
  EXPECT_EQ(freed[1].dram.slot, 3U);
  EXPECT_EQ(catalog->node(ids[1]).flags, 0U);
  EXPECT_EQ(catalog->node(ids[0]).leases, 0U);
  catalog->recycle(ids[1]);
}

TEST_F(CatalogTest, HitsAndTouches) {
  const std::vector<BlockId> ids = insert_chain(*catalog, geometry, 3);
  catalog->count_hit(std::span(ids).first(2), 2000);
  EXPECT_EQ(catalog->node(ids[1]).hits, 1U);
  EXPECT_EQ(catalog->node(ids[1]).last_hit, 2000U);
  EXPECT_EQ(catalog->node(ids[2]).last_hit, 1000U);
  catalog->touch(ids[2], 3000);
  for (const BlockId id : ids) EXPECT_EQ(catalog->node(id).last_hit, 3000U);
  EXPECT_EQ(catalog->node(ids[2]).hits, 0U);
  catalog->set_pinned(ids[1], true);
  catalog->set_journaled(ids[1], true);
  catalog->set_pinned(ids[1], false);
  EXPECT_EQ(catalog->node(ids[1]).flags, kNodeLive | kNodeJournaled);
}

TEST_F(CatalogTest, ResidencyShowsInTheRecord) {
  const std::vector<BlockId> ids = insert_chain(*catalog, geometry, 5);
  const tiers::TierSlot nvme{.segment = 3, .slot = 9};
  EXPECT_EQ(match_first(5).dram_blocks, 5U);
  for (std::uint32_t g = 0; g < 2; ++g) catalog->set_nvme(ids[2], g, nvme);
  catalog->clear_dram(ids[2], 0);
  EXPECT_EQ(match_first(5).dram_blocks, 4U);
  EXPECT_EQ(match_first(5).blocks, 5U);
  EXPECT_THAT(catalog->resident(0), UnorderedElementsAre(ids[0], ids[1], ids[3], ids[4]));
  EXPECT_EQ(catalog->resident(1).size(), 5U);

  catalog->set_dram(ids[2], 0, {.slab = 4, .slot = 4}, kPromoting);
  EXPECT_EQ(match_first(5).dram_blocks, 4U);  // not there yet
  catalog->placement(ids[2], 0).flags = 0;
  catalog->refresh(ids[2]);
  EXPECT_EQ(match_first(5).dram_blocks, 5U);
  EXPECT_EQ(catalog->placement(ids[2], 0).dram.slab, 4U);
  EXPECT_EQ(catalog->resident(0).size(), 5U);

  // A windowed group in no tier is absent: prefixes that end near block 1 cannot be served.
  catalog->clear_dram(ids[1], 1);
  EXPECT_EQ(catalog->groups(ids[1]), 1U);
  EXPECT_EQ(match_first(5).blocks, 5U);
  EXPECT_EQ(match_first(4).blocks, 1U);
}

TEST_F(CatalogTest, FlagsOfAPlacementFollowItsSlot) {
  const BlockId id = *insert(*catalog, geometry, {.number = 1});
  Placement& placement = catalog->placement(id, 0);
  placement.flags = kHasChecksum | kDirty;
  placement.checksum = 77;
  catalog->clear_dram(id, 0);
  EXPECT_EQ(placement.flags, kHasChecksum);
  EXPECT_FALSE(placement.dram.valid());
  catalog->set_dram(id, 0, {.slab = 2, .slot = 3}, kDirty);
  EXPECT_EQ(placement.flags, kHasChecksum | kDirty);
  EXPECT_EQ(placement.checksum, 77U);
}

TEST_F(CatalogTest, LeavesAreListedInOrderFromACursor) {
  std::vector<BlockId> leaves;
  for (std::uint32_t i = 0; i < 10; ++i)
    leaves.push_back(*insert(*catalog, geometry, {.number = i * 10}));
  std::vector<BlockId> out;
  BlockId next = 0;
  catalog->leaves(0, 4, out, next);
  EXPECT_EQ(out, std::vector<BlockId>(leaves.begin(), leaves.begin() + 4));
  EXPECT_EQ(next, leaves[4]);
  catalog->remove(leaves[4], freed);  // entries come and go between two calls
  insert_chain(*catalog, geometry, 1, 500, leaves[1]);
  catalog->leaves(next, 100, out, next);
  EXPECT_EQ(next, kNoBlock);
  EXPECT_THAT(std::vector<BlockId>(out.begin() + 4, out.end()),
              ElementsAre(leaves[5], leaves[6], leaves[7], leaves[8], leaves[9], 10));
  out.clear();
  catalog->leaves(1000, 5, out, next);
  EXPECT_THAT(out, IsEmpty());
  EXPECT_EQ(next, kNoBlock);
}

TEST_F(CatalogTest, GrowingKeepsEveryBlockAndTellsReaders) {
  // A reader with a mapping of its own, as a client has.
  const IndexHeader* old_header = &catalog->index().header();
  const int old_fd = ::dup(catalog->index_fd());
  std::vector<BlockId> ids = insert_chain(*catalog, geometry, 16);
  EXPECT_EQ(catalog->generation(), 1U);
  EXPECT_EQ(old_header->superseded, 0U);
  catalog->announce_retired_slab();
  const Placement before = catalog->placement(ids[7], 1);
  for (const BlockId id : insert_chain(*catalog, geometry, 100, 16, ids.back())) ids.push_back(id);
  EXPECT_EQ(catalog->generation(), 4U);  // 16, 32, 64, 128
  EXPECT_EQ(catalog->index().header().generation, 4U);
  EXPECT_EQ(catalog->index().header().daemon_epoch, 7U);
  EXPECT_EQ(catalog->index().slabs_retired(), 1U);
  EXPECT_EQ(match_first(116).blocks, 116U);
  EXPECT_EQ(match_first(116).tip, ids.back());
  EXPECT_EQ(catalog->placement(ids[7], 1).dram, before.dram);
  EXPECT_EQ(catalog->blocks(), 116U);
  EXPECT_EQ(catalog->resident(0).size(), 116U);

  IndexHeader superseded{};
  ASSERT_EQ(::pread(old_fd, &superseded, sizeof(superseded), 0),
            static_cast<ssize_t>(sizeof(superseded)));
  EXPECT_EQ(superseded.superseded, 1U);
  ::close(old_fd);
  std::size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory.path()))
    ++files;
  EXPECT_EQ(files, 2U);
  struct stat status {};
  ASSERT_EQ(::fstat(catalog->index_fd(), &status), 0);
  EXPECT_EQ(static_cast<std::uint64_t>(status.st_size), catalog->index_bytes());
}

TEST_F(CatalogTest, RecoveryPutsBlocksAtTheirIds) {
  const BlockId root = *insert(*catalog, geometry, {.number = 1, .id = 100});
  EXPECT_EQ(root, 100U);
  EXPECT_EQ(*insert(*catalog, geometry, {.parent = root, .number = 2, .id = 3}), 3U);
  const Result<BlockId> taken = insert(*catalog, geometry, {.number = 3, .id = 100});
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code, Code::kExists);
  EXPECT_THAT(taken.error().message, HasSubstr("100"));
  const Result<BlockId> wild = insert(*catalog, geometry, {.number = 3, .id = kNoBlock - 1});
  ASSERT_FALSE(wild);
  EXPECT_EQ(wild.error().code, Code::kNoSpace);
  EXPECT_EQ(match(catalog->index(), geometry, {1, 2}).blocks, 2U);
  EXPECT_EQ(catalog->high(), 101U);
}

TEST_F(CatalogTest, CannotBeMadeWhereThereIsNoDirectory) {
  const Result<std::unique_ptr<Catalog>> none =
      Catalog::create({.directory = directory.file("missing"), .geometry = geometry});
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, Code::kIo);
  EXPECT_THAT(none.error().message, HasSubstr("missing"));
}

TEST(CatalogMemory, ABlockOfSixteenTokensTakesAtMost256Bytes) {
  kvfs::test::TempDirectory directory("/dev/shm");
  Geometry geometry = one_group();
  geometry.block_tokens = 16;
  // Just past a doubling, where the most is wasted.
  const std::uint32_t blocks = (1U << 16) + 1000;
  auto catalog = open_catalog(directory.path(), geometry, 1U << 12);
  const std::vector<Token> tokens(16, 3);
  BlockId parent = kNoBlock;
  for (std::uint32_t i = 0; i < blocks; ++i) {
    const Placement placement = test::in_dram(i);
    parent = *test::insert(*catalog, {.parent = parent,
                                      .key = {.lo = i * 0x9e3779b97f4a7c15ULL, .hi = i},
                                      .tokens = tokens,
                                      .placements = {&placement, 1}});
  }
  EXPECT_EQ(catalog->blocks(), blocks);
  EXPECT_LE(catalog->memory_bytes() / blocks, 256U);
  EXPECT_GE(catalog->memory_bytes() / blocks, 150U);  // it does count them
}

}  // namespace
}  // namespace kvfs::store
