// Stores that find DRAM full of blocks on their way to NVMe.
#include <future>

#include "tests/fs/store/store_fixture.h"

namespace kvfs::store {
namespace {

constexpr std::uint64_t kBlock = 65536;
constexpr std::uint64_t kDram = 2 * kSlab;  // 64 blocks

class StoreRoom : public StoreTest {
 protected:
  // DRAM but for four blocks is full of what is being written, and stays so until thaw().
  std::shared_ptr<Namespace> full_space() {
    open_with_faults(options(kDram, 64 << 20));
    auto ns = space();
    faults().freeze();
    EXPECT_OK(put(*ns, prompt(1, 60)));
    EXPECT_EQ(store_->stats().dirty_bytes, 60 * kBlock);
    return ns;
  }
  static Status reserve(Reservation& reservation, std::uint32_t seed, std::uint32_t blocks,
                        Deadline give_up) {
    std::vector<Extent> extents(blocks);
    return reservation.reserve({}, prompt(seed, blocks), {}, extents, give_up);
  }
};

TEST_F(StoreRoom, IsWaitedForWhileWriteBackMakesIt) {
  const auto ns = full_space();
  auto reservation = ns->reserve();
  const Deadline give_up = in_seconds(60);
  ASSERT_EQ(reserve(*reservation, 2, 8, give_up).error().code, Code::kBusy);
  std::promise<Status> room;
  auto made = room.get_future();
  reservation->when_room(give_up, [&](Status status) { room.set_value(std::move(status)); });
  EXPECT_EQ(made.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  // Nobody else is held up.
  EXPECT_OK(check_prefix(*ns, prompt(1, 60)));
  EXPECT_OK(put(*ns, prompt(4, 2)));

  faults().thaw();
  EXPECT_OK(made.get());
  std::vector<Extent> extents(8);
  EXPECT_OK(reserve_waiting(*reservation, {}, prompt(2, 8), {}, extents, give_up));
  EXPECT_EQ(ns->stats().evictions.dirty, 0U);
  EXPECT_GT(ns->stats().evictions.demoted, 0U);
}

TEST_F(StoreRoom, WaitingEndsWithItsDeadline) {
  const auto ns = full_space();
  auto reservation = ns->reserve();
  std::vector<Extent> extents(8);
  const Status reserved = reserve_waiting(*reservation, {}, prompt(2, 8), {}, extents,
                                          Clock::now() + std::chrono::milliseconds(100));
  ASSERT_EQ(reserved.error().code, Code::kNoSpace);
  EXPECT_NE(reserved.error().message.find("60 wait for write-back"), std::string::npos)
      << reserved.error().message;
  EXPECT_EQ(reserve(*reservation, 2, 8, Deadline{}).error().code, Code::kNoSpace);
  faults().thaw();
}

TEST_F(StoreRoom, WhatNobodyMakesIsNotWaitedFor) {
  open(options(kDram, 64 << 20));
  const auto ns = space();
  std::vector<std::unique_ptr<Lease>> leases;
  for (std::uint32_t seed = 1; seed <= 2; ++seed) {
    const auto tokens = prompt(seed, 30);  // half of DRAM and more would stream
    ASSERT_OK(put(*ns, tokens));
    leases.push_back(*ns->lease(keys_of(ns->geometry(), tokens).back(), true));
  }
  ASSERT_OK(flush(*ns));
  auto reservation = ns->reserve();
  // The last write may still be on its way out of write-back's books.
  Status reserved;
  for (int i = 0; i < 1000; ++i) {
    reserved = reserve(*reservation, 3, 8, in_seconds(600));
    if (reserved || reserved.error().code != Code::kBusy) break;
    ASSERT_OK(wait_done([&](Done done) { reservation->when_room(in_seconds(600), done); }));
  }
  ASSERT_EQ(reserved.error().code, Code::kNoSpace);
  EXPECT_NE(reserved.error().message.find("60 are leased"), std::string::npos)
      << reserved.error().message;
}

// A full NVMe tier or a failing one makes no room, however long one would wait: beyond the backlog,
// what cannot be written is dropped.
TEST_F(StoreRoom, AFullNvmeTierIsNotWaitedFor) {
  open_with_faults(options(kDram, 64 << 20));
  const auto ns = space();
  faults().no_space(true);
  for (std::uint32_t seed = 1; seed <= 3; ++seed)
    EXPECT_OK(put(*ns, prompt(seed, 30), in_seconds(600)));
  EXPECT_GT(ns->stats().evictions.dirty, 0U);
  faults().no_space(false);
}

TEST_F(StoreRoom, AFailingNvmeTierIsNotWaitedFor) {
  open_with_faults(options(kDram, 64 << 20));
  const auto ns = space();
  faults().fail_all(Code::kIo);
  for (std::uint32_t seed = 1; seed <= 3; ++seed)
    EXPECT_OK(put(*ns, prompt(seed, 30), in_seconds(600)));
  EXPECT_GT(ns->stats().evictions.dirty, 0U);
  faults().fail_all({});
}

TEST_F(StoreRoom, WithdrawnBlocksAreFreeAtOnce) {
  open(options(kDram));
  const auto ns = space();
  auto reservation = ns->reserve();
  const auto tokens = prompt(1, 10);
  std::vector<Extent> extents(6);
  ASSERT_OK(
      reservation->reserve({}, std::span(tokens).first(32), {}, std::span(extents).first(4), {}));
  ASSERT_OK(reservation->reserve({}, std::span(tokens).subspan(32), {}, extents, {}));
  EXPECT_EQ(store_->stats().dram.used, 10 * kBlock);
  reservation->withdraw(6);
  EXPECT_EQ(reservation->blocks(), 4U);
  EXPECT_EQ(store_->stats().dram.used, 4 * kBlock);
  ASSERT_OK(reservation->reserve({}, std::span(tokens).subspan(32), {}, extents, {}));
  const auto committed = reservation->commit(10);
  ASSERT_OK(committed);
  EXPECT_EQ(committed->tip, keys_of(ns->geometry(), tokens).back());
}

TEST_F(StoreRoom, AReservationThatWasWithdrawnMayBeginElsewhere) {
  open(options(kDram));
  const auto ns = space();
  const auto first = prompt(1, 2);
  const auto second = prompt(2, 3);
  ASSERT_OK(put(*ns, first));
  ASSERT_OK(put(*ns, std::span(second).first(16)));
  auto reservation = ns->reserve();
  std::array<Extent, 1> extents{};
  const auto rest = std::span(second).subspan(16);
  ASSERT_OK(reservation->reserve(keys_of(ns->geometry(), first).back(), rest, {}, extents, {}));
  reservation->withdraw(1);
  const auto keys = keys_of(ns->geometry(), second);
  ASSERT_OK(reservation->reserve(keys[1], rest, {}, extents, {}));
  const auto committed = reservation->commit(1);
  ASSERT_OK(committed);
  EXPECT_EQ(committed->tip, keys.back());
  EXPECT_EQ(ns->match(keys), 3U);
}

// A burst of several times the tier: all of it arrives, none of it is lost.
TEST_F(StoreRoom, ABurstIsStoredAtTheSpeedOfTheDisk) {
  open(options(kDram, 64 << 20));
  const auto ns = space();
  for (std::uint32_t i = 0; i < 20; ++i) ASSERT_OK(put(*ns, prompt(i, 24), in_seconds(60)));
  EXPECT_EQ(ns->stats().evictions.dirty, 0U);
  EXPECT_EQ(ns->stats().blocks, 20U * 24);
  for (std::uint32_t i = 0; i < 20; ++i) EXPECT_OK(check_prefix(*ns, prompt(i, 24)));
}

TEST_F(StoreRoom, CountersDoNotFallWhenANamespaceGoes) {
  open(options(kDram, 64 << 20));
  auto ns = space();
  ASSERT_OK(put(*ns, prompt(1, 8)));
  ASSERT_OK(flush(*ns));
  ASSERT_OK(ns->evict_bytes("dram", 1 << 30));
  ASSERT_OK(check_prefix(*ns, prompt(1, 8)));  // promoted
  const StoreStats before = store_->stats();
  EXPECT_EQ(before.dram.bytes_in, 16 * kBlock);
  EXPECT_GE(before.dram.bytes_out, 8 * kBlock);
  ns.reset();
  ASSERT_OK(store_->remove_namespace("ns", RemoveIf::kNothingIsPinned));
  EXPECT_EQ(store_->stats().dram.bytes_in, before.dram.bytes_in);
  EXPECT_EQ(store_->stats().dram.bytes_out, before.dram.bytes_out);
}

}  // namespace
}  // namespace kvfs::store
