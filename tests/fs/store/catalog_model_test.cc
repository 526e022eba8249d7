// The catalog against a model that is too simple to be wrong: random operations, and after each
// what both say must agree.
#include <gmock/gmock.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "tests/fs/store/catalog_fixture.h"

namespace kvfs::store {
namespace {

using test::block_key;
using test::block_tokens;
using test::two_groups;

constexpr std::uint32_t kGroups = 2;
constexpr std::uint32_t kBranching = 3;  // different blocks that may follow one block

struct ModelBlock {
  Key key;
  Key parent;
  BlockId id;
  std::uint32_t number;  // names its tokens
  std::uint32_t depth;
  std::uint32_t leases = 0;
  std::uint32_t hits = 0;
  std::uint32_t last_hit = 0;
  bool pinned = false;
  std::array<tiers::DramSlot, kGroups> dram;
  std::array<tiers::TierSlot, kGroups> nvme;
};

class CatalogModel : public testing::TestWithParam<std::uint32_t> {
 protected:
  std::size_t below(std::size_t bound) { return random() % bound; }
  ModelBlock& any_live() {
    return std::next(live.begin(), static_cast<long>(below(live.size())))->second;
  }
  std::size_t children(const Key& key) {
    return static_cast<std::size_t>(
        std::ranges::count_if(live, [&](const auto& item) { return item.second.parent == key; }));
  }
  std::vector<ModelBlock*> chain_of(ModelBlock& tip) {
    std::vector<ModelBlock*> chain{&tip};
    while (!chain.back()->parent.is_zero()) chain.push_back(&live.at(chain.back()->parent));
    std::ranges::reverse(chain);
    return chain;
  }

  void insert() {
    ModelBlock* parent = live.empty() || below(8) == 0 ? nullptr : &any_live();
    const auto number =
        static_cast<std::uint32_t>(below(kBranching)) + 100 * (parent ? parent->depth + 1 : 0);
    const Key key = block_key(parent ? parent->key : geometry.seed(), number);
    std::array<Placement, kGroups> placements;
    for (std::uint32_t g = 0; g < kGroups; ++g) {
      // The windowed group is not always stored.
      if (g == 0 || below(4) != 0) placements[g] = test::in_dram(next_slot++);
    }
    const std::vector<Token> tokens = block_tokens(number);
    const Result<BlockId> id = test::insert(*catalog, {.parent = parent ? parent->id : kNoBlock,
                                                       .key = key,
                                                       .tokens = tokens,
                                                       .placements = placements,
                                                       .stored_at = now});
    if (live.contains(key)) {
      ASSERT_FALSE(id);
      ASSERT_EQ(id.error().code, Code::kExists);
      return;
    }
    ASSERT_TRUE(id) << id.error().message;
    ASSERT_FALSE(waiting.contains(*id)) << "an id that was not recycled";
    live[key] = {.key = key,
                 .parent = parent ? parent->key : Key{},
                 .id = *id,
                 .number = number,
                 .depth = parent ? parent->depth + 1 : 0,
                 .last_hit = now,
                 .dram = {placements[0].dram, placements[1].dram}};
  }
  void remove() {
    if (live.empty()) return;
    ModelBlock& block = any_live();
    if (children(block.key) != 0) return;
    std::vector<Placement> freed;
    const bool free = catalog->remove(block.id, freed);
    ASSERT_EQ(free, block.leases == 0);
    ASSERT_EQ(catalog->find(block.key), kNoBlock);
    if (free) {
      expect_freed(freed, {block});
      waiting.insert(block.id);
    } else {
      ASSERT_TRUE(freed.empty());
      doomed[block.id] = block;
    }
    live.erase(block.key);
  }
  void lease() {
    if (live.empty()) return;
    std::vector<BlockId> ids;
    ModelBlock& tip = any_live();
    catalog->chain(tip.id, ids);
    std::vector<BlockId> expected;
    for (ModelBlock* block : chain_of(tip)) {
      ++block->leases;
      expected.push_back(block->id);
    }
    ASSERT_EQ(ids, expected);
    catalog->acquire(ids);
    leases.push_back(ids);
  }
  void release() {
    if (leases.empty()) return;
    std::swap(leases[below(leases.size())], leases.back());
    const std::vector<BlockId> ids = leases.back();
    leases.pop_back();
    std::vector<Placement> freed;
    std::vector<BlockId> freed_ids;
    catalog->release(ids, freed, freed_ids);
    std::vector<ModelBlock> gone;
    for (const BlockId id : ids) {
      const auto dying = doomed.find(id);
      if (dying == doomed.end()) {
        std::ranges::find_if(live, [&](const auto& item) {
          return item.second.id == id;
        })->second.leases--;
      } else if (--dying->second.leases == 0) {
        gone.push_back(dying->second);
        doomed.erase(dying);
      }
    }
    std::vector<BlockId> gone_ids;
    for (const ModelBlock& block : gone) gone_ids.push_back(block.id);
    ASSERT_EQ(freed_ids, gone_ids);
    expect_freed(freed, gone);
    waiting.insert(gone_ids.begin(), gone_ids.end());
  }
  void recycle() {
    if (waiting.empty()) return;
    catalog->recycle(*waiting.begin());
    waiting.erase(waiting.begin());
  }
  void hit() {
    if (live.empty()) return;
    ModelBlock& tip = any_live();
    std::vector<BlockId> ids;
    catalog->chain(tip.id, ids);
    const bool count = below(2) == 0;
    if (count) {
      catalog->count_hit(ids, now);
    } else {
      catalog->touch(tip.id, now);
    }
    for (ModelBlock* block : chain_of(tip)) {
      block->hits += count ? 1 : 0;
      block->last_hit = now;
    }
  }
  void pin() {
    if (live.empty()) return;
    ModelBlock& block = any_live();
    block.pinned = !block.pinned;
    catalog->set_pinned(block.id, block.pinned);
  }
  void move() {
    if (live.empty()) return;
    ModelBlock& block = any_live();
    const auto g = static_cast<std::uint32_t>(below(kGroups));
    switch (below(4)) {
      case 0:
        block.dram[g] = {.slab = 2, .slot = next_slot++};
        return catalog->set_dram(block.id, g, block.dram[g], 0);
      case 1:
        if (g == 0 && !block.nvme[0].valid()) return;  // a full group is somewhere
        block.dram[g] = {};
        return catalog->clear_dram(block.id, g);
      case 2:
        block.nvme[g] = {.segment = 1, .slot = next_slot++};
        return catalog->set_nvme(block.id, g, block.nvme[g]);
      default:
        if (g == 0 && !block.dram[0].valid()) return;
        block.nvme[g] = {};
        return catalog->clear_nvme(block.id, g);
    }
  }

  static void expect_freed(const std::vector<Placement>& freed,
                           const std::vector<ModelBlock>& blocks) {
    std::size_t next = 0;
    for (const ModelBlock& block : blocks) {
      for (std::uint32_t g = 0; g < kGroups; ++g) {
        ASSERT_LT(next, freed.size());
        EXPECT_EQ(freed[next].dram, block.dram[g]);
        EXPECT_EQ(freed[next].nvme, block.nvme[g]);
        ++next;
      }
    }
    EXPECT_EQ(next, freed.size());
  }

  // A random walk down the tree that may leave it, matched as a client would.
  void check_match() {
    std::vector<std::uint32_t> numbers;
    for (std::uint32_t depth = 0; depth < 12; ++depth) {
      numbers.push_back(static_cast<std::uint32_t>(below(kBranching)) + 100 * depth);
    }
    std::vector<ModelBlock*> cached;
    Key key = geometry.seed();
    for (const std::uint32_t number : numbers) {
      const auto found = live.find(key = block_key(key, number));
      if (found == live.end()) break;
      cached.push_back(&found->second);
    }
    const auto stored = [&](std::size_t i, std::uint32_t g) {
      return cached[i]->dram[g].valid() || cached[i]->nvme[g].valid();
    };
    const auto serves = [&](std::size_t length) {
      for (std::size_t i = length - std::min<std::size_t>(length, 3); i < length; ++i) {
        if (!stored(i, 1)) return false;
      }
      return true;
    };
    std::size_t length = cached.size();
    while (length > 0 && !serves(length)) --length;
    const Match match = test::match(catalog->index(), geometry, numbers);
    ASSERT_EQ(match.blocks, length);
    if (length == 0) return;
    EXPECT_EQ(match.tip, cached[length - 1]->id);
    EXPECT_EQ(match.key, cached[length - 1]->key);
    std::uint32_t in_dram = 0;
    for (std::size_t i = 0; i < length; ++i) {
      bool all = true;
      for (std::uint32_t g = 0; g < kGroups; ++g)
        all &= !stored(i, g) || cached[i]->dram[g].valid();
      in_dram += all ? 1 : 0;
    }
    EXPECT_EQ(match.dram_blocks, in_dram);
  }
  void check_everything() {
    ASSERT_EQ(catalog->blocks(), live.size());
    std::set<BlockId> leaves;
    std::array<std::set<BlockId>, kGroups> resident;
    for (const auto& [key, block] : live) {
      ASSERT_EQ(catalog->find(key), block.id);
      const Node& node = catalog->node(block.id);
      EXPECT_EQ(node.children, children(key));
      EXPECT_EQ(node.leases, block.leases);
      EXPECT_EQ(node.hits, block.hits);
      EXPECT_EQ(node.last_hit, block.last_hit);
      EXPECT_EQ(node.flags, kNodeLive | (block.pinned ? kNodePinned : 0U));
      EXPECT_EQ(catalog->depth(block.id), block.depth);
      if (node.children == 0) leaves.insert(block.id);
      expect_placed(block, resident);
    }
    for (const auto& [id, block] : doomed) expect_placed(block, resident);
    EXPECT_EQ(std::set<BlockId>(catalog->leaf_list().begin(), catalog->leaf_list().end()), leaves);
    EXPECT_EQ(catalog->leaf_list().size(), leaves.size());
    for (std::uint32_t g = 0; g < kGroups; ++g) {
      const auto ids = catalog->resident(g);
      EXPECT_EQ(std::set<BlockId>(ids.begin(), ids.end()), resident[g]);
      EXPECT_EQ(ids.size(), resident[g].size());
    }
    std::vector<BlockId> listed;
    for (BlockId cursor = 0; cursor != kNoBlock;) catalog->leaves(cursor, 7, listed, cursor);
    EXPECT_EQ(listed, std::vector<BlockId>(leaves.begin(), leaves.end()));
  }
  void expect_placed(const ModelBlock& block, std::array<std::set<BlockId>, kGroups>& resident) {
    for (std::uint32_t g = 0; g < kGroups; ++g) {
      EXPECT_EQ(catalog->placement(block.id, g).dram, block.dram[g]);
      EXPECT_EQ(catalog->placement(block.id, g).nvme, block.nvme[g]);
      if (block.dram[g].valid()) resident[g].insert(block.id);
    }
  }

  kvfs::test::TempDirectory directory{"/dev/shm"};
  Geometry geometry = two_groups();
  std::unique_ptr<Catalog> catalog = test::open_catalog(directory.path(), geometry);
  std::mt19937 random{GetParam()};
  std::map<Key, ModelBlock> live;
  std::map<BlockId, ModelBlock> doomed;
  std::set<BlockId> waiting;  // free, not recycled
  std::vector<std::vector<BlockId>> leases;
  std::uint32_t next_slot = 0;
  std::uint32_t now = 1;
};

TEST_P(CatalogModel, TenThousandRandomOperations) {
  for (int step = 0; step < 10000; ++step, ++now) {
    // Phases that grow and phases that shrink, so that ids and buckets are used again.
    const std::size_t grow = step / 1000 % 2 == 0 ? 45 : 15;
    const std::size_t dice = below(100);
    if (dice < grow) {
      insert();
    } else if (dice < 60) {
      remove();
    } else if (dice < 66) {
      lease();
    } else if (dice < 73) {
      release();
    } else if (dice < 81) {
      recycle();
    } else if (dice < 86) {
      hit();
    } else if (dice < 88) {
      pin();
    } else {
      move();
    }
    if (HasFatalFailure()) FAIL() << "seed " << GetParam() << " step " << step;
    check_match();
    if (step % 250 == 0) check_everything();
    if (HasFailure()) FAIL() << "seed " << GetParam() << " step " << step;
  }
  check_everything();
  EXPECT_GT(catalog->generation(), 2U);  // it grew on the way
}

INSTANTIATE_TEST_SUITE_P(Seeds, CatalogModel, testing::Values(1U, 2U, 3U, 4U, 5U));

}  // namespace
}  // namespace kvfs::store
