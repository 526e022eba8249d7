#include <algorithm>
#include <atomic>
#include <random>
#include <thread>

#include "tests/fs/store/failing_journal.h"
#include "tests/fs/store/store_fixture.h"

namespace kvfs::store {
namespace {

constexpr std::uint64_t kBlock = 65536;

// DRAM of 64 blocks.
constexpr std::uint64_t kSmallDram = 2 * kSlab;

TEST_F(StoreTest, TheOldestAndLeastUsedPrefixLeavesFirst) {
  open(options(kSmallDram));
  const auto ns = space();
  // Eight prefixes of eight blocks fill the tier; two of them are used often.
  for (std::uint32_t i = 0; i < 8; ++i) ASSERT_OK(put(*ns, prompt(i, 8)));
  EXPECT_EQ(store_->stats().dram.used, 64 * kBlock);
  for (const std::uint32_t used : {2U, 5U}) {
    for (int n = 0; n < 20; ++n) {
      ASSERT_OK(ns->lease(keys_of(ns->geometry(), prompt(used, 8)).back(), false));
    }
  }
  for (std::uint32_t i = 100; i < 104; ++i) ASSERT_OK(put(*ns, prompt(i, 8)));
  EXPECT_TRUE(cached(*ns, prompt(2, 8)));
  EXPECT_TRUE(cached(*ns, prompt(5, 8)));
  EXPECT_TRUE(cached(*ns, prompt(103, 8)));
  EXPECT_LE(store_->stats().dram.used, 64 * kBlock);
  EXPECT_GE(ns->stats().evictions.capacity, 32U);
}

TEST_F(StoreTest, EvictionKeepsPrefixesClosedUnderShortening) {
  open(options(kSmallDram));
  const auto ns = space();
  std::mt19937 engine(1);
  const auto random = [&] { return static_cast<std::uint32_t>(engine()); };
  for (std::uint32_t round = 0; round < 200; ++round) {
    const auto tokens = prompt(random() % 20, 1 + random() % 12);
    ASSERT_OK(put(*ns, tokens));
    for (std::uint32_t i = 0; i < 20; ++i) {
      const auto keys = keys_of(ns->geometry(), prompt(i, 12));
      const std::uint32_t length = ns->match(keys);
      for (std::uint32_t n = 0; n < 12; ++n) ASSERT_EQ(ns->contains(keys[n]), n < length);
    }
    ASSERT_LE(store_->stats().dram.used, 64 * kBlock);
  }
}

TEST_F(StoreTest, PinnedAndLeasedPrefixesStay) {
  open(options(kSmallDram));
  const auto ns = space();
  const auto pinned = prompt(1, 10);
  const auto leased = prompt(2, 10);
  ASSERT_OK(put(*ns, pinned));
  ASSERT_OK(put(*ns, leased));
  ASSERT_OK(ns->set_pinned(keys_of(ns->geometry(), pinned).back(), true));
  auto lease = ns->lease(keys_of(ns->geometry(), leased).back(), true);
  ASSERT_OK(lease);
  for (std::uint32_t i = 10; i < 60; ++i) ASSERT_OK(put(*ns, prompt(i, 9)));
  EXPECT_OK(check_prefix(*ns, pinned));
  EXPECT_OK(check_blocks(*ns, **lease, keys_of(ns->geometry(), leased)));
}

TEST_F(StoreTest, AFullTierSaysWhatHoldsIt) {
  open(options(kSmallDram));
  const auto ns = space();
  const auto pinned = prompt(1, 40);
  ASSERT_OK(put(*ns, pinned));
  ASSERT_OK(ns->set_pinned(keys_of(ns->geometry(), pinned).back(), true));
  const auto leased = prompt(2, 24);
  ASSERT_OK(put(*ns, leased));
  const auto lease = ns->lease(keys_of(ns->geometry(), leased).back(), true);
  const auto more = put(*ns, prompt(3, 2));
  ASSERT_FALSE(more.has_value());
  EXPECT_EQ(more.error().code, Code::kNoSpace);
  EXPECT_NE(more.error().message.find("24 are leased"), std::string::npos) << more.error().message;
  EXPECT_NE(more.error().message.find("40 pinned"), std::string::npos) << more.error().message;
  EXPECT_EQ(store_->stats().dram.used, 64 * kBlock);  // nothing half there
  EXPECT_EQ(ns->stats().blocks, 64U);
}

TEST_F(StoreTest, WhatIsOnNvmeIsDemotedAndComesBack) {
  open(options(kSmallDram, 64 << 20));
  const auto ns = space();
  for (std::uint32_t i = 0; i < 20; ++i) {
    ASSERT_OK(put(*ns, prompt(i, 8)));
    ASSERT_OK(flush(*ns));
  }
  EXPECT_EQ(ns->stats().blocks, 160U);
  EXPECT_EQ(ns->stats().nvme_blocks, 160U);
  EXPECT_LE(ns->stats().dram_blocks, 64U);
  EXPECT_EQ(ns->stats().evictions.capacity, 0U);
  for (std::uint32_t i = 0; i < 20; ++i) EXPECT_OK(check_prefix(*ns, prompt(i, 8)));
  EXPECT_GE(ns->stats().promoted_bytes, 90 * kBlock);
  EXPECT_LE(store_->stats().dram.used, 64 * kBlock);
}

TEST_F(StoreTest, TwoLeasesOfAMissingBlockReadItOnce) {
  open_with_faults(options(kSmallDram, 64 << 20));
  const auto ns = space();
  const auto tokens = prompt(1, 4);
  const auto keys = keys_of(ns->geometry(), tokens);
  ASSERT_OK(put(*ns, tokens));
  ASSERT_OK(flush(*ns));
  ASSERT_OK(ns->evict_bytes("dram", 1 << 30));
  ASSERT_EQ(ns->stats().dram_blocks, 0U);
  const std::uint64_t reads = faults().reads();
  faults().freeze();
  auto one = ns->lease(keys.back(), true);
  auto two = ns->lease(keys.back(), true);
  std::promise<Status> first, second;
  (*one)->when_resident(0, 0, 4, in_seconds(20), [&](Status s) { first.set_value(std::move(s)); });
  (*two)->when_resident(0, 0, 4, in_seconds(20), [&](Status s) { second.set_value(std::move(s)); });
  std::array<Extent, 4> extents{};
  EXPECT_EQ(*(*one)->extents(0, 0, extents), 0U);
  faults().thaw();
  EXPECT_OK(first.get_future().get());
  EXPECT_OK(second.get_future().get());
  EXPECT_EQ(faults().reads() - reads, 4U);
  EXPECT_OK(check_blocks(*ns, **one, keys));
}

TEST_F(StoreTest, APrefixLargerThanDramStreamsThrough) {
  open(options(kSmallDram, 64 << 20));
  const auto ns = space();
  const auto tokens = prompt(1, 200);
  const auto keys = keys_of(ns->geometry(), tokens);
  auto reservation = ns->reserve();
  for (std::uint32_t at = 0; at < 200; at += 20) {
    std::array<Extent, 20> extents{};
    ASSERT_OK(reservation->reserve({}, std::span(tokens).subspan(at * 8, 160), {}, extents, {}));
    for (std::uint32_t i = at; i < at + 20; ++i)
      fill(keys[i], 0, {reservation->address(i, 0), kBlock});
    ASSERT_OK(reservation->commit(at + 20));
    ASSERT_OK(flush(*ns));
  }
  auto lease = ns->lease(keys.back(), false);
  ASSERT_OK(lease);
  ASSERT_OK((*lease)->promote(0, 0, 200));
  std::vector<std::byte> expected(kBlock);
  for (std::uint32_t i = 0; i < 200; ++i) {
    ASSERT_OK(wait_done(
        [&](Done done) { (*lease)->when_resident(0, i, 1, in_seconds(20), std::move(done)); }));
    const auto bytes = read_file(**lease, (*lease)->layout().kv[0] + i * kBlock, kBlock);
    ASSERT_OK(bytes);
    fill(keys[i], 0, expected);
    ASSERT_EQ(*bytes, expected);
    (*lease)->done_before(i + 1);
  }
  EXPECT_OK(check_blocks(*ns, **lease, std::span(keys).first(50)));  // from the start again
  lease->reset();
  EXPECT_EQ(ns->find(keys[0])->leases, 0U);
}

TEST_F(StoreTest, ALeaseLargerThanDramIsToldSo) {
  open(options(kSmallDram, 64 << 20));
  const auto ns = space();
  const auto tokens = prompt(1, 100);
  for (std::uint32_t n = 20; n <= 100; n += 20) {
    ASSERT_OK(put(*ns, std::span(tokens).first(n * 8)));
    ASSERT_OK(flush(*ns));
  }
  auto lease = ns->lease(keys_of(ns->geometry(), tokens).back(), true);
  ASSERT_OK(lease);
  const Status resident = wait_done(
      [&](Done done) { (*lease)->when_resident(0, 0, 100, in_seconds(20), std::move(done)); });
  EXPECT_EQ(resident.error().code, Code::kNoSpace) << resident.error().message;
}

TEST_F(StoreTest, NvmeDropsLeavesWhenItIsFull) {
  auto with = options(kSmallDram, 16 << 20);  // 256 blocks
  open(with);
  const auto ns = space();
  for (std::uint32_t i = 0; i < 60; ++i) {
    ASSERT_OK(put(*ns, prompt(i, 8)));
    ASSERT_OK(flush(*ns));
    ASSERT_LE(store_->stats().nvme.used, with.nvme.directories[0].capacity);
  }
  EXPECT_GT(ns->stats().evictions.capacity, 200U);
  EXPECT_OK(check_prefix(*ns, prompt(59, 8)));
  for (std::uint32_t i = 0; i < 60; ++i) {
    const auto keys = keys_of(ns->geometry(), prompt(i, 8));
    const std::uint32_t length = ns->match(keys);
    if (length != 0)
      EXPECT_OK(check_prefix(*ns, std::span<const Token>(prompt(i, 8)).first(length * 8)));
  }
}

TEST_F(StoreTest, AFullNvmeKeepsWhatItHasWhileTheJournalFails) {
  open(options(kSmallDram, 16 << 20));  // 256 blocks
  const auto ns = space();
  for (std::uint32_t i = 0; i < 40; ++i) {
    ASSERT_OK(put(*ns, prompt(i, 8)));
    ASSERT_OK(flush(*ns));
  }
  const std::uint64_t before = ns->stats().evictions.capacity;
  {
    const FailingJournal failing(*ns);
    for (std::uint32_t i = 40; i < 44; ++i) ASSERT_OK(put(*ns, prompt(i, 8)));
    std::this_thread::sleep_for(std::chrono::milliseconds(1000));  // several tries of write-back
    EXPECT_LE(ns->stats().evictions.capacity - before, 4U);        // one batch
  }
  ASSERT_OK(flush(*ns));
  EXPECT_OK(check_prefix(*ns, prompt(43, 8)));
}

TEST_F(StoreTest, ANamespaceOfAnotherBlockSizeFindsRoomOnAFullNvme) {
  open(options(4 * kSlab, 16 << 20));
  const auto old = space("old");
  for (std::uint32_t i = 0; i < 40; ++i) {
    ASSERT_OK(put(*old, prompt(i, 8)));
    ASSERT_OK(flush(*old));
  }
  auto wide = small_geometry("wide");
  wide.groups[0].head_dim = 2048;
  const auto fresh = space("fresh", wide);
  for (std::uint32_t i = 0; i < 8; ++i) {
    ASSERT_OK(put(*fresh, prompt(i, 4)));
    ASSERT_OK(flush(*fresh));
    EXPECT_OK(check_prefix(*fresh, prompt(i, 4)));
  }
  EXPECT_EQ(fresh->stats().nvme_blocks, 32U);
}

// One segment would do for it to store at all; it is asked for, the other is not.
TEST_F(StoreTest, NvmeSegmentsGoToTheBlockSizeThatIsWorthMore) {
  open(options(4 * kSlab, 16 << 20));
  const auto old = space("old");
  for (std::uint32_t i = 0; i < 40; ++i) {
    ASSERT_OK(put(*old, prompt(i, 8)));
    ASSERT_OK(flush(*old));
  }
  auto narrow = small_geometry("narrow");
  narrow.groups[0].head_dim = 512;
  const auto busy = space("busy", narrow);
  for (std::uint32_t i = 0; i < 64; ++i) {
    ASSERT_OK(put(*busy, prompt(i, 8)));
    ASSERT_OK(flush(*busy));
    auto lease = busy->lease(keys_of(narrow, prompt(i, 8)).back(), true);
    ASSERT_OK(lease);
    for (int hit = 0; hit < 3; ++hit) (*lease)->count_hit();
  }
  EXPECT_GE(busy->stats().nvme_blocks * 32768, 8U << 20);
  EXPECT_OK(check_prefix(*busy, prompt(63, 8)));
  for (std::uint32_t i = 0; i < 40; ++i) {
    const std::uint32_t length = old->match(keys_of(old->geometry(), prompt(i, 8)));
    if (length != 0)
      EXPECT_OK(check_prefix(*old, std::span<const Token>(prompt(i, 8)).first(length * 8)));
  }
}

TEST_F(StoreTest, ASlabMovesToTheNamespaceThatNeedsIt) {
  open(options(4 * kSlab));
  const auto idle = space("idle");
  for (std::uint32_t i = 0; i < 16; ++i) ASSERT_OK(put(*idle, prompt(i, 8)));
  EXPECT_EQ(idle->slabs().size(), 4U);
  auto other = small_geometry("other");
  const auto busy = space("busy", other);
  for (std::uint32_t i = 0; i < 8; ++i) ASSERT_OK(put(*busy, prompt(i, 8)));
  EXPECT_GE(busy->slabs().size(), 1U);
  EXPECT_LE(idle->slabs().size(), 3U);
  EXPECT_GT(idle->stats().evictions.slab_moved, 0U);
  EXPECT_OK(check_prefix(*busy, prompt(7, 8)));
  const auto stats = store_->stats();
  EXPECT_LE(stats.dram.reserved, stats.dram.capacity);
}

class SlabListener : public StoreListener {
 public:
  void on_prefix_removed(std::uint32_t, const Key&) override {}
  void on_slab_removed(std::uint32_t, std::uint32_t) override { ++removed; }
  void on_namespace_removed(std::uint32_t) override {}
  std::atomic<int> removed{0};
};

TEST_F(StoreTest, ASlabThatAClientMapsIsMovedOnlyWhenItIsClosed) {
  SlabListener listener;
  open(options(2 * kSlab, 64 << 20), &listener);
  const auto idle = space("idle");
  for (std::uint32_t i = 0; i < 8; ++i) ASSERT_OK(put(*idle, prompt(i, 8)));
  ASSERT_OK(flush(*idle));
  const auto slabs = idle->slabs();
  ASSERT_EQ(slabs.size(), 2U);
  for (const SlabInfo& slab : slabs) idle->count_slab_open(slab.id, 1);
  const auto busy = space("busy", small_geometry("busy"));
  const auto refused = put(*busy, prompt(1, 8));
  EXPECT_EQ(refused.error().code, Code::kNoSpace);
  EXPECT_EQ(listener.removed, 0);
  const auto after = idle->slabs();
  ASSERT_EQ(after.size(), 2U);
  const auto retiring = std::ranges::find(after, 1U, &SlabInfo::retiring);
  ASSERT_NE(retiring, after.end());
  EXPECT_EQ(std::ranges::count(after, 1U, &SlabInfo::retiring), 1);
  idle->count_slab_open(retiring->id, -1);
  EXPECT_EQ(listener.removed, 1);
  EXPECT_OK(put(*busy, prompt(1, 8)));
  EXPECT_OK(check_prefix(*busy, prompt(1, 8)));
  for (std::uint32_t i = 0; i < 8; ++i) EXPECT_OK(check_prefix(*idle, prompt(i, 8)));
  store_.reset();
}

TEST_F(StoreTest, EvictBytesAndEvictAllSayWhatTheyDid) {
  open(options(kSmallDram, 64 << 20));
  const auto ns = space();
  for (std::uint32_t i = 0; i < 4; ++i) ASSERT_OK(put(*ns, prompt(i, 8)));
  ASSERT_OK(flush(*ns));
  auto evicted = ns->evict_bytes("dram", 10 * kBlock);
  ASSERT_OK(evicted);
  EXPECT_EQ(evicted->bytes, 10 * kBlock);
  EXPECT_EQ(ns->stats().dram_blocks, 22U);
  EXPECT_EQ(ns->stats().blocks, 32U);
  evicted = ns->evict_bytes("nvme", 10 * kBlock);
  ASSERT_OK(evicted);
  EXPECT_GE(evicted->blocks, 10U);
  EXPECT_EQ(ns->evict_bytes("tape", 1).error().code, Code::kInvalid);
  ASSERT_OK(put(*ns, prompt(50, 3)));
  ASSERT_OK(ns->set_pinned(keys_of(ns->geometry(), prompt(50, 3)).back(), true));
  evicted = ns->evict_all();
  ASSERT_OK(evicted);
  EXPECT_EQ(evicted->kept_pinned, 3U);
  EXPECT_EQ(ns->stats().blocks, 3U);
  EXPECT_OK(check_prefix(*ns, prompt(50, 3)));
}

}  // namespace
}  // namespace kvfs::store
