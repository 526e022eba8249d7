#include <algorithm>
#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/fs/store/store_fixture.h"

namespace kvfs::store {
namespace {

TEST_F(StoreTest, WhatIsCommittedIsLeasedAndRead) {
  open(options(2 * kSlab));
  const auto ns = space();
  const auto tokens = prompt(1, 5);
  const auto keys = keys_of(ns->geometry(), tokens);
  const auto committed = put(*ns, tokens);
  ASSERT_OK(committed);
  EXPECT_EQ(committed->committed, 5U);
  EXPECT_EQ(committed->present, 0U);
  EXPECT_EQ(committed->tip, keys.back());
  EXPECT_EQ(ns->match(keys), 5U);
  for (std::size_t n = 1; n <= 5; ++n) EXPECT_OK(check_prefix(*ns, std::span(tokens).first(n * 8)));
  EXPECT_EQ(*ns->tokens(keys[2]), std::vector<Token>(tokens.begin(), tokens.begin() + 24));
}

TEST_F(StoreTest, TheFileIsWhatItsLayoutSays) {
  open(options(2 * kSlab));
  const auto ns = space();
  const auto tokens = prompt(1, 3);
  const auto keys = keys_of(ns->geometry(), tokens);
  ASSERT_OK(put(*ns, tokens));
  auto lease = ns->lease(keys.back(), true);
  ASSERT_OK(lease);
  const PrefixLayout& layout = (*lease)->layout();
  const auto file = read_file(**lease, 0, layout.file_bytes + 100);
  ASSERT_OK(file);
  ASSERT_EQ(file->size(), layout.file_bytes);
  const std::string header = prefix_header(ns->geometry(), 3, keys.back());
  EXPECT_EQ(std::memcmp(file->data(), header.data(), header.size()), 0);
  EXPECT_EQ(std::memcmp(file->data() + layout.tokens, tokens.data(), tokens.size() * 4), 0);
  for (std::uint32_t i = 0; i < 3; ++i) {
    std::uint64_t checksum = 0;
    std::memcpy(&checksum, file->data() + layout.checksums[0] + 8 * i, 8);
    const std::uint64_t bytes = ns->geometry().block_bytes(0);
    EXPECT_EQ(checksum, block_checksum({file->data() + layout.kv[0] + i * bytes, bytes}));
  }
  // Any piece is the same as that piece of the whole.
  for (std::uint64_t offset = 0; offset < layout.file_bytes; offset += 12347) {
    const auto piece = read_file(**lease, offset, 70001);
    ASSERT_OK(piece);
    ASSERT_TRUE(std::equal(piece->begin(), piece->end(),
                           file->begin() + static_cast<std::ptrdiff_t>(offset)));
    ASSERT_EQ(piece->size(), std::min<std::uint64_t>(70001, layout.file_bytes - offset));
  }
}

TEST_F(StoreTest, ExtentsAreWhereTheBytesAre) {
  open(options(2 * kSlab));
  const auto ns = space();
  const auto tokens = prompt(1, 4);
  const auto keys = keys_of(ns->geometry(), tokens);
  ASSERT_OK(put(*ns, tokens));
  auto lease = ns->lease(keys.back(), false);
  ASSERT_OK(lease);
  std::array<Extent, 8> extents{};
  EXPECT_EQ(*(*lease)->extents(0, 0, extents), 4U);
  EXPECT_EQ(*(*lease)->extents(0, 3, extents), 1U);
  EXPECT_EQ((*lease)->extents(1, 0, extents).error().code, Code::kInvalid);
  EXPECT_EQ((*lease)->extents(0, 5, extents).error().code, Code::kInvalid);
  const auto slabs = ns->slabs();
  ASSERT_EQ(slabs.size(), 1U);
  const auto fd = ns->slab_fd(extents[0].slab);
  ASSERT_OK(fd);
  std::vector<std::byte> found(ns->geometry().block_bytes(0));
  ASSERT_EQ(::pread(*fd, found.data(), found.size(),
                    static_cast<off_t>(extents[0].slot * slabs[0].slot_bytes)),
            static_cast<ssize_t>(found.size()));
  std::vector<std::byte> expected(found.size());
  fill(keys[3], 0, expected);
  EXPECT_EQ(found, expected);
  EXPECT_EQ(ns->slab_fd(77).error().code, Code::kNotFound);
}

TEST_F(StoreTest, ALongerPrefixSharesTheBlocksOfAShorterOne) {
  open(options(2 * kSlab));
  const auto ns = space();
  const auto tokens = prompt(1, 6);
  ASSERT_OK(put(*ns, std::span(tokens).first(4 * 8)));
  const auto committed = put(*ns, tokens);
  ASSERT_OK(committed);
  EXPECT_EQ(committed->committed, 2U);
  EXPECT_EQ(committed->present, 4U);
  EXPECT_EQ(ns->stats().dram_blocks, 6U);
  EXPECT_OK(check_prefix(*ns, tokens));
}

TEST_F(StoreTest, TheFirstOfTwoWritersWins) {
  open(options(2 * kSlab));
  const auto ns = space();
  const auto tokens = prompt(1, 3);
  const auto keys = keys_of(ns->geometry(), tokens);
  auto slow = ns->reserve();
  std::array<Extent, 3> extents{};
  ASSERT_OK(slow->reserve({}, tokens, {}, extents, {}));
  ASSERT_OK(put(*ns, tokens));
  for (std::uint32_t i = 0; i < 3; ++i) std::memset(slow->address(i, 0), 0xee, 65536);
  const auto committed = slow->commit(3);
  ASSERT_OK(committed);
  EXPECT_EQ(committed->committed, 0U);
  EXPECT_EQ(committed->present, 3U);
  EXPECT_EQ(committed->tip, keys.back());
  EXPECT_EQ(ns->stats().lost_races, 3U);
  EXPECT_EQ(store_->stats().dram.used, 3U * 65536);  // the loser's slots are free at once
  EXPECT_OK(check_prefix(*ns, tokens));
}

TEST_F(StoreTest, AReservationGoesOnAndCommitsInPieces) {
  open(options(2 * kSlab));
  const auto ns = space();
  const auto tokens = prompt(1, 6);
  const auto keys = keys_of(ns->geometry(), tokens);
  auto reservation = ns->reserve();
  std::array<Extent, 3> extents{};
  ASSERT_OK(reservation->reserve({}, std::span(tokens).first(24), {}, extents, {}));
  ASSERT_OK(reservation->reserve({}, std::span(tokens).subspan(24), {}, extents, {}));
  EXPECT_EQ(reservation->blocks(), 6U);
  for (std::uint32_t i = 0; i < 6; ++i) fill(keys[i], 0, {reservation->address(i, 0), 65536});
  EXPECT_FALSE(ns->contains(keys[0]));
  ASSERT_OK(reservation->commit(2));
  EXPECT_EQ(ns->match(keys), 2U);
  EXPECT_EQ(reservation->address(1, 0), nullptr);
  const auto rest = reservation->commit(6);
  ASSERT_OK(rest);
  EXPECT_EQ(rest->committed, 4U);
  EXPECT_OK(check_prefix(*ns, tokens));
  EXPECT_EQ(reservation->commit(7).error().code, Code::kInvalid);
}

TEST_F(StoreTest, AnotherProcessJoinsAReservation) {
  open(options(2 * kSlab));
  const auto ns = space();
  const auto tokens = prompt(1, 3);
  const auto keys = keys_of(ns->geometry(), tokens);
  auto leader = ns->reserve();
  std::array<Extent, 3> extents{};
  ASSERT_OK(leader->reserve({}, tokens, {}, extents, {}));
  auto rank = ns->join(leader->id());
  ASSERT_OK(rank);
  std::array<Extent, 8> seen{};
  EXPECT_EQ((*rank)->extents(1, seen), 2U);
  EXPECT_EQ(seen[0].slot, extents[1].slot);
  for (std::uint32_t i = 0; i < 3; ++i) {
    std::vector<std::byte> bytes(65536);
    fill(keys[i], 0, bytes);
    std::memcpy(leader->address(i, 0), bytes.data(), 32768);
    std::memcpy((*rank)->address(i, 0) + 32768, bytes.data() + 32768, 32768);
  }
  ASSERT_OK((*rank)->commit(3));
  EXPECT_OK(check_prefix(*ns, tokens));
  const std::uint64_t id = leader->id();
  leader.reset();
  rank->reset();
  EXPECT_EQ(ns->join(id).error().code, Code::kNotFound);
}

TEST_F(StoreTest, AnAbandonedReservationFreesItsSlotsAfterTheQuarantine) {
  auto with = options(2 * kSlab);
  with.quarantine_ms = 200;
  open(with);
  const auto ns = space();
  const auto tokens = prompt(1, 3);
  {
    auto reservation = ns->reserve();
    std::array<Extent, 3> extents{};
    ASSERT_OK(reservation->reserve({}, tokens, {}, extents, {}));
    EXPECT_EQ(ns->stats().reservations_open, 1U);
  }
  EXPECT_EQ(ns->stats().reservations_open, 0U);
  EXPECT_EQ(store_->stats().quarantined_bytes, 3U * 65536);
  EXPECT_EQ(store_->stats().dram.used, 3U * 65536);
  const auto give_up = in_seconds(5);
  while (store_->stats().dram.used != 0 && Clock::now() < give_up) std::this_thread::yield();
  EXPECT_EQ(store_->stats().dram.used, 0U);
  EXPECT_EQ(store_->stats().quarantined_bytes, 0U);
  EXPECT_FALSE(cached(*ns, tokens));
}

TEST_F(StoreTest, BadReservationsAreRefusedWhole) {
  open(options(2 * kSlab));
  const auto ns = space();
  auto tokens = prompt(1, 3);
  std::array<Extent, 3> extents{};
  auto reservation = ns->reserve();
  EXPECT_EQ(reservation->reserve({}, std::span(tokens).first(23), {}, extents, {}).error().code,
            Code::kInvalid);
  EXPECT_EQ(reservation->reserve({}, tokens, {}, std::span(extents).first(2), {}).error().code,
            Code::kInvalid);
  EXPECT_EQ(reservation->reserve({1, 2}, tokens, {}, extents, {}).error().code, Code::kNotFound);
  const ExtraAt beyond{.block = 3, .extra = {1, 1}};
  EXPECT_EQ(reservation->reserve({}, tokens, {&beyond, 1}, extents, {}).error().code,
            Code::kInvalid);
  tokens[5] = -1;
  EXPECT_EQ(reservation->reserve({}, tokens, {}, extents, {}).error().code, Code::kInvalid);
  const auto many = prompt(1, 65);
  std::vector<Extent> too_many(65);
  const Status more = reservation->reserve({}, many, {}, too_many, {});
  EXPECT_EQ(more.error().code, Code::kNoSpace);
  EXPECT_EQ(reservation->blocks(), 0U);
  EXPECT_EQ(store_->stats().dram.used, 0U);
}

TEST_F(StoreTest, ExtrasMakeAnotherPrefix) {
  open(options(2 * kSlab));
  const auto ns = space();
  const auto tokens = prompt(1, 3);
  ASSERT_OK(put(*ns, tokens));
  const ExtraAt image{.block = 1, .extra = {7, 7}};
  auto reservation = ns->reserve();
  std::array<Extent, 3> extents{};
  ASSERT_OK(reservation->reserve({}, tokens, {&image, 1}, extents, {}));
  EXPECT_EQ(extents[0].slab, kSlabPresent);
  EXPECT_NE(extents[1].slab, kSlabPresent);
  EXPECT_NE(extents[2].slab, kSlabPresent);
  const auto committed = reservation->commit(3);
  ASSERT_OK(committed);
  EXPECT_EQ(committed->committed, 2U);
  EXPECT_NE(committed->tip, keys_of(ns->geometry(), tokens).back());
}

TEST_F(StoreTest, CommitFailsWhenTheParentWasRemoved) {
  open(options(2 * kSlab));
  const auto ns = space();
  const auto tokens = prompt(1, 4);
  const auto keys = keys_of(ns->geometry(), tokens);
  ASSERT_OK(put(*ns, std::span(tokens).first(16)));
  auto reservation = ns->reserve();
  std::array<Extent, 2> extents{};
  ASSERT_OK(reservation->reserve(keys[1], std::span(tokens).subspan(16), {}, extents, {}));
  ASSERT_OK(ns->evict(keys[1]));
  EXPECT_EQ(reservation->commit(2).error().code, Code::kNotFound);
  EXPECT_EQ(ns->match(keys), 0U);
}

TEST_F(StoreTest, AnOpenPrefixIsRemovedAtOnceAndFreedLater) {
  open(options(2 * kSlab));
  const auto ns = space();
  const auto tokens = prompt(1, 4);
  const auto keys = keys_of(ns->geometry(), tokens);
  ASSERT_OK(put(*ns, tokens));
  auto lease = ns->lease(keys.back(), true);
  ASSERT_OK(lease);
  const auto evicted = ns->evict(keys.back());
  ASSERT_OK(evicted);
  EXPECT_EQ(evicted->blocks, 4U);
  EXPECT_EQ(evicted->kept_leased, 4U);
  EXPECT_FALSE(ns->contains(keys[0]));
  EXPECT_EQ(ns->lease(keys.back(), true).error().code, Code::kNotFound);
  EXPECT_OK(check_blocks(*ns, **lease, keys));
  ASSERT_OK(put(*ns, tokens));  // stored anew beside it
  EXPECT_EQ(store_->stats().dram.used, 8U * 65536);
  EXPECT_OK(check_blocks(*ns, **lease, keys));
  lease->reset();
  EXPECT_EQ(store_->stats().dram.used, 4U * 65536);
  EXPECT_OK(check_prefix(*ns, tokens));
}

TEST_F(StoreTest, EvictStopsAtWhatIsSharedNamedOrPinned) {
  open(options(2 * kSlab));
  const auto ns = space();
  auto one = prompt(1, 6);
  auto two = one;
  two.back() += 1;  // parts at the last block
  const auto keys = keys_of(ns->geometry(), one);
  ASSERT_OK(put(*ns, one));
  ASSERT_OK(put(*ns, two));
  auto evicted = ns->evict(keys[5]);
  ASSERT_OK(evicted);
  EXPECT_EQ(evicted->blocks, 1U);
  EXPECT_EQ(evicted->kept_shared, 5U);
  EXPECT_TRUE(cached(*ns, two));
  ASSERT_OK(ns->add_name("mine", keys[3], false));
  evicted = ns->evict(keys_of(ns->geometry(), two).back());
  ASSERT_OK(evicted);
  EXPECT_EQ(evicted->blocks, 2U);
  EXPECT_EQ(ns->match(keys), 4U);
  ASSERT_OK(ns->set_pinned(keys[1], true));
  ASSERT_OK(ns->evict(keys[3]));
  EXPECT_EQ(ns->match(keys), 2U);
  evicted = ns->evict(keys[1]);
  ASSERT_OK(evicted);
  EXPECT_EQ(evicted->blocks, 0U);
  EXPECT_EQ(evicted->kept_pinned, 2U);
  ASSERT_OK(ns->set_pinned(keys[1], false));
  ASSERT_OK(ns->evict(keys[1]));
  EXPECT_EQ(ns->match(keys), 0U);
  EXPECT_EQ(ns->evict(keys[1]).error().code, Code::kNotFound);
  EXPECT_EQ(store_->stats().dram.used, 0U);
}

TEST_F(StoreTest, InfoSaysWhatAPrefixIs) {
  open(options(2 * kSlab));
  const auto ns = space();
  auto one = prompt(1, 4);
  auto two = one;
  two.back() += 1;
  const auto keys = keys_of(ns->geometry(), one);
  ASSERT_OK(put(*ns, one));
  ASSERT_OK(put(*ns, two));
  ASSERT_OK(ns->lease(keys.back(), false));
  ASSERT_OK(ns->set_label(keys.back(), "what it is"));
  auto info = ns->find(keys.back());
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->blocks, 4U);
  EXPECT_EQ(info->parent, keys[2]);
  EXPECT_EQ(info->own_bytes, 65536U);
  EXPECT_EQ(info->shared_bytes, 3 * 65536U);
  EXPECT_EQ(info->dram_blocks, 4U);
  EXPECT_EQ(info->nvme_blocks, 0U);
  EXPECT_EQ(info->hits, 1U);
  EXPECT_EQ(info->leases, 0U);
  EXPECT_TRUE(info->leaf);
  EXPECT_FALSE(info->pinned);
  EXPECT_EQ(info->label, "what it is");
  EXPECT_EQ(info->file_bytes, prefix_layout(ns->geometry(), 4).file_bytes);
  const auto inner = ns->find(keys[1]);
  EXPECT_FALSE(inner->leaf);
  EXPECT_EQ(inner->own_bytes, 0U);
  EXPECT_FALSE(ns->find({5, 5}).has_value());

  std::vector<PrefixEntry> entries;
  ns->list(0, 1, entries);
  ASSERT_EQ(entries.size(), 1U);
  ns->list(entries[0].cookie, 10, entries);
  ASSERT_EQ(entries.size(), 2U);
  std::vector<std::pair<PrefixInfo, std::uint64_t>> tree;
  ns->tree(0, 10, tree);
  ASSERT_EQ(tree.size(), 3U);  // where they part, and two leaves
  EXPECT_EQ(std::ranges::count(tree, keys[2], [](const auto& node) { return node.first.parent; }),
            2);
}

TEST_F(StoreTest, NamesAreKeptInOrder) {
  open(options(2 * kSlab));
  const auto ns = space();
  const auto tokens = prompt(1, 2);
  const auto keys = keys_of(ns->geometry(), tokens);
  ASSERT_OK(put(*ns, tokens));
  ASSERT_OK(ns->add_name("b", keys[0], false));
  ASSERT_OK(ns->add_name("a", keys[1], false));
  EXPECT_EQ(ns->add_name("a", keys[0], false).error().code, Code::kExists);
  EXPECT_EQ(ns->add_name("c", {3, 3}, false).error().code, Code::kNotFound);
  for (const char* bad : {"", ".", "..", ".kvfs", "x/y", "two\nlines", "\x1b[2J", "\x7f"}) {
    EXPECT_EQ(ns->add_name(bad, keys[0], false).error().code, Code::kInvalid) << bad;
  }
  std::vector<NameEntry> names;
  ns->names(0, 10, names);
  ASSERT_EQ(names.size(), 2U);
  EXPECT_EQ(names[0].name, "b");
  ASSERT_OK(ns->rename_name("b", "d"));
  EXPECT_EQ(ns->name("d"), keys[0]);
  EXPECT_FALSE(ns->name("b").has_value());
  names.clear();
  ns->names(0, 1, names);
  EXPECT_EQ(names[0].name, "a");
  ASSERT_OK(ns->remove_name("a"));
  EXPECT_EQ(ns->remove_name("a").error().code, Code::kNotFound);
  EXPECT_EQ(ns->names_of(keys[0]), std::vector<std::string>{"d"});
}

TEST_F(StoreTest, NamespacesAreMadeRenamedAndRemoved) {
  open(options(2 * kSlab));
  const auto ns = space("one");
  EXPECT_FALSE(store_->create_namespace("one", small_geometry(), {})->second);
  auto other = small_geometry();
  other.dtype = DType::kF16;
  const auto mismatch = store_->create_namespace("one", other, {});
  EXPECT_EQ(mismatch.error().code, Code::kMismatch);
  EXPECT_NE(mismatch.error().message.find("F16"), std::string::npos);
  EXPECT_EQ(store_->create_namespace("a/b", other, {}).error().code, Code::kInvalid);
  auto huge = small_geometry();
  huge.block_tokens = 1024;
  EXPECT_EQ(store_->create_namespace("huge", huge, {}).error().code, Code::kInvalid);

  ASSERT_OK(store_->rename_namespace("one", "two"));
  EXPECT_EQ(store_->find_namespace("one"), nullptr);
  EXPECT_EQ(ns->name(), "two");
  const auto tokens = prompt(1, 3);
  ASSERT_OK(put(*ns, tokens));
  const Key tip = keys_of(ns->geometry(), tokens).back();
  {
    const auto lease = ns->lease(tip, true);
    EXPECT_EQ(store_->remove_namespace("two", RemoveIf::kNotInUse).error().code, Code::kBusy);
  }
  EXPECT_EQ(store_->remove_namespace("two", RemoveIf::kEmpty).error().code, Code::kExists);
  ASSERT_OK(ns->set_pinned(tip, true));
  EXPECT_EQ(store_->remove_namespace("two", RemoveIf::kNothingIsPinned).error().code, Code::kBusy);
  const auto removed = store_->remove_namespace("two", RemoveIf::kNotInUse);
  ASSERT_OK(removed);
  EXPECT_EQ(removed->blocks, 3U);
  EXPECT_EQ(store_->find_namespace("two"), nullptr);
  EXPECT_EQ(put(*ns, tokens).error().code, Code::kNotFound);
  EXPECT_EQ(store_->stats().dram.used, 0U);
  EXPECT_EQ(store_->stats().dram.reserved, 0U);
  EXPECT_GT(space("two")->id(), ns->id());
}

TEST_F(StoreTest, ManyThreadsStoreAndLoadTheSamePrefixes) {
  open(options(8 * kSlab, 64 << 20));
  const auto ns = space();
  std::atomic<int> wrong{0};
  std::vector<std::jthread> threads;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (unsigned round = 0; round < 60; ++round) {
        const auto tokens = prompt((round * 7 + t) % 12, 3 + (round + t) % 5);
        const auto stored = put(*ns, tokens);
        if (!stored) wrong += stored.error().code != Code::kNotFound;
        const Status right = check_prefix(*ns, tokens);
        if (!right) wrong += right.error().code != Code::kNotFound;
        if (round % 9 == t) {
          ignore_error(ns->evict(keys_of(ns->geometry(), tokens).back()), "another may have");
        }
      }
    });
  }
  threads.clear();
  EXPECT_EQ(wrong, 0);
  EXPECT_OK(flush(*ns));
  EXPECT_EQ(store_->stats().dirty_bytes, 0U);
  EXPECT_EQ(ns->stats().leases_open, 0U);
}

}  // namespace
}  // namespace kvfs::store
