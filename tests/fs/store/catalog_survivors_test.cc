// What a daemon finds in DRAM after the one before it ended, in whatever way.
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <thread>

#include "fs/store/generation_files.h"
#include "tests/fs/store/catalog_fixture.h"

namespace kvfs::store {
namespace {

using test::insert;
using test::insert_chain;
using test::open_catalog;
using test::two_groups;

struct Found {
  Key key;
  Key parent;
  Extra extra;
  std::uint32_t depth;
  std::vector<Token> tokens;
  Node node;
  std::vector<Placement> placements;
};

std::vector<Found> survivors_of(Catalog& catalog) {
  std::vector<Found> found;
  const Status status = catalog.survivors([&](const Catalog::Survivor& survivor) {
    found.push_back({survivor.key,
                     survivor.parent,
                     survivor.extra,
                     survivor.depth,
                     {survivor.tokens.begin(), survivor.tokens.end()},
                     survivor.node,
                     {survivor.placements.begin(), survivor.placements.end()}});
  });
  EXPECT_TRUE(status);
  return found;
}

class SurvivorsTest : public testing::Test {
 protected:
  std::unique_ptr<Catalog> open() { return open_catalog(directory.path(), geometry); }
  std::size_t files() {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& e : std::filesystem::directory_iterator(directory.path()))
      ++count;
    return count;
  }
  void overwrite(const std::string& path, std::uint64_t offset, char byte) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(offset));
    file.put(byte);
  }

  kvfs::test::TempDirectory directory{"/dev/shm"};
  Geometry geometry = two_groups();
};

TEST_F(SurvivorsTest, EverythingLiveInDramIsFoundInOrder) {
  std::vector<Key> keys;
  {
    const auto catalog = open();
    // Longer than the first index, so that it grew.
    const std::vector<BlockId> ids = insert_chain(*catalog, geometry, 40);
    for (const BlockId id : ids) keys.push_back(catalog->key(id));
    ASSERT_TRUE(insert(*catalog, geometry,
                       {.parent = ids[3], .number = 99, .extra = {.hi = 8}, .flags = kNodePinned}));
    catalog->acquire(ids);
    catalog->count_hit(ids, 5000);
    catalog->placement(ids[2], 0).flags = kHasChecksum | kDirty;
    catalog->placement(ids[2], 0).checksum = 123;
    catalog->placement(ids[2], 0).io_pins = 3;
  }
  const auto catalog = open();
  EXPECT_EQ(catalog->blocks(), 0U);
  const std::vector<Found> found = survivors_of(*catalog);
  ASSERT_EQ(found.size(), 41U);
  EXPECT_TRUE(std::ranges::is_sorted(found, {}, &Found::depth));
  for (const Found& block : found) {
    if (block.extra.is_zero()) {
      EXPECT_EQ(block.key, keys[block.depth]);
      EXPECT_EQ(block.parent, block.depth == 0 ? Key{} : keys[block.depth - 1]);
      EXPECT_EQ(block.tokens, test::block_tokens(block.depth));
      EXPECT_EQ(block.placements[1].dram.slot, block.depth * 2 + 1);
      EXPECT_EQ(block.node.hits, 1U);
      EXPECT_EQ(block.node.last_hit, 5000U);
    } else {
      EXPECT_EQ(block.parent, keys[3]);
      EXPECT_TRUE(block.node.flags & kNodePinned);
    }
    // Nothing that meant something in the old process only.
    EXPECT_EQ(block.node.leases, 0U);
    EXPECT_EQ(block.node.children, 0U);
    EXPECT_EQ(block.placements[0].io_pins, 0U);
  }
  EXPECT_EQ(found[2].placements[0].flags, kHasChecksum | kDirty);
  EXPECT_EQ(found[2].placements[0].checksum, 123U);

  EXPECT_EQ(files(), 4U);
  catalog->forget_survivors();
  EXPECT_EQ(files(), 2U);
  EXPECT_TRUE(survivors_of(*catalog).empty());
}

TEST_F(SurvivorsTest, WhatIsNotWholeInDramIsLeftOut) {
  Key promoted;
  {
    const auto catalog = open();
    const std::vector<BlockId> ids = insert_chain(*catalog, geometry, 6);
    std::vector<Placement> freed;
    catalog->remove(ids[5], freed);  // gone
    catalog->acquire({&ids[4], 1});
    catalog->remove(ids[4], freed);          // doomed
    for (std::uint32_t g = 0; g < 2; ++g) {  // on NVMe only
      catalog->set_nvme(ids[3], g, {.segment = 1, .slot = 1});
      catalog->clear_dram(ids[3], g);
    }
    // One group being read from NVMe, the other one there.
    catalog->set_nvme(ids[2], 0, {.segment = 1, .slot = 2});
    catalog->set_dram(ids[2], 0, {.slab = 1, .slot = 70}, kPromoting);
    promoted = catalog->key(ids[2]);
    for (std::uint32_t g = 0; g < 2; ++g) {  // both being read
      catalog->set_nvme(ids[1], g, {.segment = 1, .slot = 3});
      catalog->set_dram(ids[1], g, {.slab = 1, .slot = 80 + g}, kPromoting);
    }
  }
  const auto catalog = open();
  const std::vector<Found> found = survivors_of(*catalog);
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].depth, 0U);
  EXPECT_EQ(found[1].key, promoted);
  EXPECT_FALSE(found[1].placements[0].dram.valid());
  EXPECT_TRUE(found[1].placements[0].nvme.valid());
  EXPECT_TRUE(found[1].placements[1].dram.valid());
}

TEST_F(SurvivorsTest, ASecondCrashDuringRecoveryLosesNothing) {
  Key root;
  {
    const auto catalog = open();
    root = catalog->key(insert_chain(*catalog, geometry, 10)[0]);
  }
  {
    // The next daemon took over the first blocks, at other ids, and died.
    const auto catalog = open();
    ASSERT_TRUE(insert(*catalog, geometry, {.number = 0, .id = 9}));
    ASSERT_TRUE(insert(*catalog, geometry, {.parent = 9, .number = 1}));
  }
  const auto catalog = open();
  const std::vector<Found> found = survivors_of(*catalog);
  ASSERT_EQ(found.size(), 10U);
  for (std::uint32_t i = 0; i < 10; ++i) EXPECT_EQ(found[i].depth, i);
  EXPECT_EQ(found[0].key, root);
  catalog->forget_survivors();
  EXPECT_EQ(files(), 2U);
}

TEST_F(SurvivorsTest, DamagedRecordsAndTheirChildrenAreLeftOut) {
  {
    const auto catalog = open();
    insert_chain(*catalog, geometry, 8);
    // The second token of block 4.
    const IndexHeader& header = catalog->index().header();
    overwrite(index_path(directory.path(), 1),
              header.records_offset + 4 * header.record_bytes + sizeof(RecordHeader) + 4, 77);
    // The key of block 6: neither it nor the block behind it is what it was.
    overwrite(index_path(directory.path(), 1), header.records_offset + 6 * header.record_bytes + 8,
              77);
  }
  const auto catalog = open();
  std::vector<std::uint32_t> depths;
  for (const Found& block : survivors_of(*catalog)) depths.push_back(block.depth);
  EXPECT_THAT(depths, testing::ElementsAre(0, 1, 2, 3, 5));
}

TEST_F(SurvivorsTest, ForeignTruncatedAndOtherGeometryFilesAreSkipped) {
  Geometry other = geometry;
  other.model = "other";
  { insert_chain(*open_catalog(directory.path(), other), other, 3); }  // 1
  { insert_chain(*open(), geometry, 3); }                              // 2, whole
  { insert_chain(*open(), geometry, 4); }                              // 3, index cut
  std::filesystem::resize_file(index_path(directory.path(), 3), 5000);
  { insert_chain(*open(), geometry, 4); }  // 4, nodes cut
  std::filesystem::resize_file(nodes_path(directory.path(), 4), 4096);
  { insert_chain(*open(), geometry, 4); }  // 5, no nodes
  std::filesystem::remove(nodes_path(directory.path(), 5));
  { insert_chain(*open(), geometry, 4); }  // 6, another version
  overwrite(nodes_path(directory.path(), 6), 8, 99);
  std::ofstream(index_path(directory.path(), 7)) << "foreign";
  std::ofstream(nodes_path(directory.path(), 7)) << "foreign";
  std::ofstream(directory.file("index.x")) << "not ours";
  const auto catalog = open();
  EXPECT_EQ(catalog->generation(), 8U);
  EXPECT_EQ(survivors_of(*catalog).size(), 3U);
  catalog->forget_survivors();
  EXPECT_EQ(files(), 3U);  // its own two and the one that is not ours
}

// A daemon that inserts, removes and promotes as fast as it can. A block's DRAM slots say which
// block they hold, so that a survivor with another block's bytes shows.
[[noreturn]] void run_until_killed(const std::string& directory, const Geometry& geometry) {
  const auto catalog = open_catalog(directory, geometry);
  std::mt19937 random(static_cast<unsigned>(::getpid()));
  std::vector<Placement> freed;
  for (;;) {
    const std::span<const BlockId> leaves = catalog->leaf_list();
    const BlockId leaf = leaves.empty() ? kNoBlock : leaves[random() % leaves.size()];
    const auto dice = random() % 10;
    if (leaf == kNoBlock || dice < 5) {
      ignore_error(insert(*catalog, geometry,
                          {.parent = dice == 0 ? kNoBlock : leaf,
                           .number = static_cast<std::uint32_t>(random() % 1000)}),
                   "it may be there already");
    } else if (dice < 8) {
      catalog->remove(leaf, freed);
      catalog->recycle(leaf);
    } else {
      const tiers::DramSlot slot = catalog->placement(leaf, 0).dram;
      catalog->set_nvme(leaf, 0, {.segment = 1, .slot = 1});
      catalog->clear_dram(leaf, 0);
      catalog->set_dram(leaf, 0, {.slab = 9, .slot = 123456}, kPromoting);
      catalog->clear_dram(leaf, 0);
      catalog->set_dram(leaf, 0, slot, kDirty);
    }
  }
}

TEST_F(SurvivorsTest, AKillAtAnyMomentLeavesOnlyTrueBlocks) {
  std::size_t total = 0;
  // On a busy machine a child may not come far before it is killed: later ones have more time.
  for (int round = 0; round < 40 || (total <= 100 && round < 400); ++round) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) run_until_killed(directory.path(), geometry);
    std::this_thread::sleep_for(std::chrono::microseconds(2000 + 500 * round));
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);

    const auto catalog = open();
    std::map<Key, std::uint32_t> depth_of;
    for (const Found& block : survivors_of(*catalog)) {
      const auto number = static_cast<std::uint32_t>(block.tokens[0]);
      const Key parent = block.depth == 0 ? geometry.seed() : block.parent;
      EXPECT_EQ(block.key, test::block_key(parent, number));
      for (std::uint32_t g = 0; g < 2; ++g) {
        if (!block.placements[g].dram.valid()) continue;
        EXPECT_EQ(block.placements[g].dram, (tiers::DramSlot{.slab = 1, .slot = number * 2 + g}));
      }
      EXPECT_TRUE(depth_of.emplace(block.key, block.depth).second);
      ++total;
    }
    catalog->forget_survivors();
  }
  EXPECT_GT(total, 100U);
}

}  // namespace
}  // namespace kvfs::store
