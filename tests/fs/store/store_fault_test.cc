#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <thread>

#include "fs/store/namespace_impl.h"
#include "tests/fs/store/failing_journal.h"
#include "tests/fs/store/store_fixture.h"

namespace kvfs::store {
namespace {

TEST_F(StoreTest, ABlockWithBadBytesIsDroppedWithWhatFollowsIt) {
  open_with_faults(options(2 * kSlab, 64 << 20));
  const auto ns = space();
  const auto tokens = prompt(1, 6);
  auto branch = tokens;
  branch.back() += 1;
  const auto keys = keys_of(ns->geometry(), tokens);
  ASSERT_OK(put(*ns, tokens));
  ASSERT_OK(put(*ns, branch));
  ASSERT_OK(flush(*ns));
  ASSERT_OK(ns->evict_bytes("dram", 1 << 30));
  faults().flip_bit(3, 12345);
  auto lease = ns->lease(keys.back(), true);
  ASSERT_OK(lease);
  Status resident;
  // One at a time, so that the third read is the third block's.
  std::uint32_t bad = 0;
  for (; bad < 6 && resident; ++bad) {
    resident = wait_done(
        [&](Done done) { (*lease)->when_resident(0, bad, 1, in_seconds(20), std::move(done)); });
  }
  EXPECT_EQ(bad, 3U);
  EXPECT_EQ(resident.error().code, Code::kCorrupt);
  EXPECT_EQ(ns->match(keys), 2U);
  EXPECT_FALSE(cached(*ns, branch));
  EXPECT_EQ(ns->stats().evictions.corrupt, 5U);
  lease->reset();
  EXPECT_OK(check_prefix(*ns, std::span(tokens).first(16)));
  EXPECT_EQ(store_->stats().dram.used, 2U * 65536);
  ASSERT_OK(put(*ns, tokens));
  ASSERT_OK(flush(*ns));
  EXPECT_EQ(store_->stats().nvme.used, 6U * 65536);
  EXPECT_OK(check_prefix(*ns, tokens));
}

// Reads the prefix block by block; the last Status.
Status read_in_order(Namespace& space, std::span<const Token> tokens) {
  auto lease = space.lease(keys_of(space.geometry(), tokens).back(), true);
  if (!lease) return pass(std::move(lease));
  Status resident;
  for (std::uint32_t block = 0; block < (*lease)->blocks() && resident; ++block) {
    resident = wait_done(
        [&](Done done) { (*lease)->when_resident(0, block, 1, in_seconds(20), std::move(done)); });
  }
  return resident;
}

TEST_F(StoreTest, ADiskThatIsAwayForAMomentCostsNoBlock) {
  open_with_faults(options(2 * kSlab, 64 << 20));
  const auto ns = space();
  const auto tokens = prompt(1, 6);
  ASSERT_OK(put(*ns, tokens));
  ASSERT_OK(flush(*ns));
  ASSERT_OK(ns->evict_bytes("dram", 1 << 30));
  faults().fail_all(Code::kIo);
  EXPECT_EQ(read_in_order(*ns, tokens).error().code, Code::kIo);
  EXPECT_EQ(read_in_order(*ns, tokens).error().code, Code::kIo);
  faults().fail_all({});
  EXPECT_EQ(ns->stats().blocks, 6U);
  EXPECT_OK(check_prefix(*ns, tokens));
}

TEST_F(StoreTest, ABlockThatAloneCannotBeReadIsDropped) {
  open_with_faults(options(2 * kSlab, 64 << 20));
  const auto ns = space();
  const auto tokens = prompt(1, 6);
  const auto other = prompt(2, 1);
  ASSERT_OK(put(*ns, tokens));
  ASSERT_OK(put(*ns, other));
  ASSERT_OK(flush(*ns));
  ASSERT_OK(ns->evict_bytes("dram", 1 << 30));
  faults().fail_read(3, Code::kIo);
  EXPECT_EQ(read_in_order(*ns, tokens).error().code, Code::kIo);
  EXPECT_EQ(ns->stats().blocks, 7U);
  EXPECT_OK(check_prefix(*ns, other));
  faults().fail_read(1, Code::kIo);
  EXPECT_EQ(read_in_order(*ns, tokens).error().code, Code::kIo);
  EXPECT_EQ(ns->match(keys_of(ns->geometry(), tokens)), 2U);
  EXPECT_EQ(ns->stats().evictions.io_error, 4U);
}

TEST_F(StoreTest, ABlockWhereAnotherCouldNotBeReadIsNotDropped) {
  open_with_faults(options(3 * kSlab, 64 << 20));
  const auto ns = space();
  const auto before = prompt(1, 1);
  const auto other = prompt(2, 63);  // a segment is full
  const auto tokens = prompt(3, 1);
  ASSERT_OK(put(*ns, before));
  ASSERT_OK(flush(*ns));
  ASSERT_OK(put(*ns, other));
  ASSERT_OK(flush(*ns));
  ASSERT_OK(ns->evict_bytes("dram", 1 << 30));
  faults().fail_read(1, Code::kIo);
  EXPECT_EQ(read_in_order(*ns, before).error().code, Code::kIo);
  ASSERT_OK(ns->evict(keys_of(ns->geometry(), before).back()));
  const auto give_up = in_seconds(20);
  while (store_->stats().nvme.used != 63U * 65536 && Clock::now() < give_up)
    std::this_thread::yield();
  ASSERT_OK(put(*ns, tokens));
  ASSERT_OK(flush(*ns));
  EXPECT_OK(check_prefix(*ns, other));
  ASSERT_OK(ns->evict_bytes("dram", 1 << 30));
  faults().fail_read(1, Code::kIo);
  EXPECT_EQ(read_in_order(*ns, tokens).error().code, Code::kIo);
  EXPECT_TRUE(cached(*ns, tokens));
  EXPECT_OK(check_prefix(*ns, tokens));
}

TEST_F(StoreTest, BytesThatChangedOnTheDiskAreNotServed) {
  const auto with = options(2 * kSlab, 64 << 20);
  open(with);
  const auto tokens = prompt(1, 6);
  ASSERT_OK(put(*space(), tokens));
  ASSERT_OK(store_->close(in_seconds(20), false));
  store_.reset();
  for (const auto& entry : std::filesystem::directory_iterator(disk_.file("nvme") + "/segments")) {
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    for (int slot = 0; slot < 6; ++slot) {
      file.seekp(slot * 65536 + 777);
      file.put('x');
    }
  }
  open(with);
  const auto ns = store_->find_namespace("ns");
  EXPECT_EQ(ns->match(keys_of(ns->geometry(), tokens)), 6U);
  const Status served = check_prefix(*ns, tokens);
  EXPECT_EQ(served.error().code, Code::kCorrupt);
  EXPECT_NE(served.error().message.find("checksum"), std::string::npos) << served.error().message;
  EXPECT_EQ(ns->stats().blocks, 0U);
  ASSERT_OK(put(*ns, tokens));
  EXPECT_OK(check_prefix(*ns, tokens));
}

TEST_F(StoreTest, VerifyFindsBadCopiesAndUsesTheGoodOnes) {
  open(options(2 * kSlab, 64 << 20));
  const auto ns = space();
  const auto tokens = prompt(1, 6);
  ASSERT_OK(put(*ns, tokens));
  ASSERT_OK(flush(*ns));
  auto verified = ns->verify(0, 100);
  ASSERT_OK(verified);
  EXPECT_EQ(verified->checked, 6U);
  EXPECT_EQ(verified->next, 0U);
  EXPECT_EQ(verified->bytes, 12U * 65536);
  EXPECT_TRUE(verified->bad.empty());
  verified = ns->verify(0, 4);
  EXPECT_EQ(verified->checked, 4U);
  EXPECT_EQ(ns->verify(verified->next, 4)->checked, 2U);

  // NVMe copies go bad behind the store's back.
  for (const auto& entry : std::filesystem::directory_iterator(disk_.file("nvme") + "/segments")) {
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(5);
    file.put('x');
    file.seekp(65536 * 3 + 5);
    file.put('x');
  }
  verified = ns->verify(0, 100);
  ASSERT_EQ(verified->bad.size(), 2U);
  EXPECT_EQ(verified->bad[0].tier, "nvme");
  EXPECT_EQ(ns->stats().blocks, 6U);
  ASSERT_OK(flush(*ns));
  EXPECT_TRUE(ns->verify(0, 100)->bad.empty());
  EXPECT_EQ(store_->stats().nvme.used, 6U * 65536);

  // And one in DRAM.
  const Key third = keys_of(ns->geometry(), tokens)[2];
  spoil_in_dram(*ns, third, 2);
  verified = ns->verify(0, 100);
  ASSERT_EQ(verified->bad.size(), 1U);
  EXPECT_EQ(verified->bad[0].tier, "dram");
  EXPECT_EQ(verified->bad[0].key, third);
  EXPECT_OK(check_prefix(*ns, tokens));
}

TEST_F(StoreTest, VerifyLeavesWhatItCannotRead) {
  open_with_faults(options(2 * kSlab, 64 << 20));
  const auto ns = space();
  const auto tokens = prompt(1, 6);
  ASSERT_OK(put(*ns, tokens));
  ASSERT_OK(flush(*ns));
  ASSERT_OK(ns->evict_bytes("dram", 1 << 30));
  faults().fail_read(2, Code::kIo);
  faults().fail_read(5, Code::kTimeout);
  const auto verified = ns->verify(0, 100);
  ASSERT_OK(verified);
  EXPECT_EQ(verified->checked, 6U);
  EXPECT_EQ(verified->bytes, 4U * 65536);
  EXPECT_TRUE(verified->bad.empty());
  ASSERT_EQ(verified->unread.size(), 2U);
  EXPECT_EQ(verified->unread[0].key, keys_of(ns->geometry(), tokens)[1]);
  EXPECT_NE(verified->unread[0].why.find("read failed"), std::string::npos);

  EXPECT_TRUE(ns->verify(0, 100)->unread.empty());
  EXPECT_OK(check_prefix(*ns, tokens));
}

TEST_F(StoreTest, VerifyKeepsTheCopyThatItCannotReadAndNotTheBadOne) {
  open_with_faults(options(2 * kSlab, 64 << 20));
  const auto ns = space();
  const auto tokens = prompt(1, 6);
  ASSERT_OK(put(*ns, tokens));
  ASSERT_OK(flush(*ns));
  spoil_in_dram(*ns, keys_of(ns->geometry(), tokens).back(), 2);
  faults().fail_read(3, Code::kIo);
  const auto verified = ns->verify(0, 100);
  ASSERT_OK(verified);
  ASSERT_EQ(verified->bad.size(), 1U);
  EXPECT_EQ(verified->bad[0].tier, "dram");
  EXPECT_EQ(verified->unread.size(), 1U);
  EXPECT_EQ(ns->stats().dram_blocks, 5U);
  EXPECT_EQ(ns->stats().nvme_blocks, 6U);
  EXPECT_OK(check_prefix(*ns, tokens));
}

TEST_F(StoreTest, VerifyEndsWhereTheWholeDiskFails) {
  open_with_faults(options(2 * kSlab, 64 << 20));
  const auto ns = space();
  const auto tokens = prompt(1, 30);
  ASSERT_OK(put(*ns, tokens));
  ASSERT_OK(flush(*ns));
  faults().fail_all(Code::kIo);
  const std::uint64_t before = faults().reads();
  const auto verified = ns->verify(0, 100);
  ASSERT_FALSE(verified.has_value());
  EXPECT_EQ(verified.error().code, Code::kIo);
  EXPECT_NE(verified.error().message.find("read failed (injected)"), std::string::npos);
  EXPECT_LT(faults().reads() - before, 30U);
  EXPECT_EQ(ns->stats().blocks, 30U);
  EXPECT_EQ(ns->stats().nvme_blocks, 30U);
}

TEST_F(StoreTest, AFailedWriteIsTriedAgain) {
  open_with_faults(options(2 * kSlab, 64 << 20));
  const auto ns = space();
  faults().fail_write(1, Code::kIo);
  faults().fail_write(3, Code::kIo);
  const auto tokens = prompt(1, 6);
  ASSERT_OK(put(*ns, tokens));
  expect_written_back(*ns, 6);
  ASSERT_OK(ns->evict_bytes("dram", 1 << 30));
  EXPECT_OK(check_prefix(*ns, tokens));
}

TEST_F(StoreTest, AFailedSyncLeavesBlocksDirty) {
  open_with_faults(options(2 * kSlab, 64 << 20));
  const auto ns = space();
  faults().fail_sync(Code::kIo);
  ASSERT_OK(put(*ns, prompt(1, 6)));
  const Status early = wait_done([&](Done done) {
    ns->flush(Clock::now() + std::chrono::milliseconds(200), std::move(done));
  });
  EXPECT_EQ(early.error().code, Code::kTimeout);
  EXPECT_EQ(ns->stats().nvme_blocks, 0U);
  faults().fail_sync({});
  expect_written_back(*ns, 6);
}

std::size_t submitted(Namespace& space) {
  NamespaceState& state = *static_cast<NamespaceImpl&>(space).state();
  const MutexLock lock(state.mutex);
  return static_cast<std::size_t>(std::ranges::count_if(state.writes, [](const auto& write) {
    return write.second.state == BlockWrite::State::kSubmitted;
  }));
}

// However many blocks wait for it.
TEST_F(StoreTest, OneSyncThatFailsIsOneFailure) {
  open_with_faults(options(2 * kSlab, 64 << 20));
  const auto ns = space();
  faults().at_next_sync([&]() -> Status {
    const auto give_up = in_seconds(20);
    while (submitted(*ns) < 24 && Clock::now() < give_up) std::this_thread::yield();
    faults().at_next_sync([]() -> Status { return fail(Code::kIo, "sync failed (injected)"); });
    return {};
  });
  ASSERT_OK(put(*ns, prompt(1, 24)));
  expect_written_back(*ns, 24);
}

// As where one of several disks fails: though the first block, without which no record is written,
// is among those that it gets.
TEST_F(StoreTest, WritesThatFailAmongGoodOnesAreNotInARow) {
  open_with_faults(options(3 * kSlab, 64 << 20));
  const auto ns = space();
  for (std::uint64_t nth = 1; nth <= 64; nth += 3) faults().fail_write(nth, Code::kIo);
  ASSERT_OK(put(*ns, prompt(1, 64)));
  expect_written_back(*ns, 64);
}

TEST_F(StoreTest, ATierThatFailsIsTakenOutOfUseAndNothingHangs) {
  open_with_faults(options(2 * kSlab, 64 << 20));
  const auto ns = space();
  const auto safe = prompt(1, 6);
  ASSERT_OK(put(*ns, safe));
  ASSERT_OK(flush(*ns));
  faults().fail_all(Code::kIo);
  const auto tokens = prompt(2, 12);
  ASSERT_OK(put(*ns, tokens));
  const Status flushed = flush(*ns);
  EXPECT_EQ(flushed.error().code, Code::kIo) << flushed.error().message;
  EXPECT_EQ(flush(*ns).error().code, Code::kIo);  // at once
  EXPECT_OK(check_prefix(*ns, tokens));           // DRAM still serves
  EXPECT_OK(check_prefix(*ns, safe));
  ASSERT_OK(ns->evict_bytes("dram", 6 * 65536));
  const auto start = Clock::now();
  EXPECT_FALSE(check_prefix(*ns, safe).has_value());
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(2));
  EXPECT_TRUE(cached(*ns, safe));  // the tier may come back
  faults().fail_all({});
  const auto give_up = in_seconds(30);  // more than TierHealth::kRetryAfter
  const auto in_time = [&](const std::function<Status()>& attempt) {
    Status last = attempt();
    for (; !last && Clock::now() < give_up; last = attempt())
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    return last;
  };
  ASSERT_OK(in_time([&] { return flush(*ns); }));
  EXPECT_OK(in_time([&] { return check_prefix(*ns, safe); }));
  EXPECT_EQ(ns->stats().nvme_blocks, 18U);
}

TEST_F(StoreTest, ADiskThatOnlyReadsIsNotWrittenTo) {
  open_with_faults(options(2 * kSlab, 64 << 20));
  const auto ns = space();
  const auto safe = prompt(1, 6);
  ASSERT_OK(put(*ns, safe));
  ASSERT_OK(flush(*ns));
  ASSERT_OK(ns->evict_bytes("dram", 1 << 30));
  faults().fail_sync(Code::kIo);
  ASSERT_OK(put(*ns, prompt(2, 12)));
  const Status flushed = flush(*ns);
  EXPECT_EQ(flushed.error().code, Code::kIo) << flushed.error().message;
  EXPECT_OK(check_prefix(*ns, safe));
  EXPECT_EQ(flush(*ns).error().code, Code::kIo);  // at once
}

TEST_F(StoreTest, WhoWaitsInVainLeavesNothingBehind) {
  open_with_faults(options(2 * kSlab, 64 << 20));
  const auto ns = space();
  faults().fail_all(Code::kIo);
  ASSERT_OK(put(*ns, prompt(1, 12)));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(flush(*ns).error().code, Code::kIo);
  NamespaceState& state = *static_cast<NamespaceImpl&>(*ns).state();
  const MutexLock lock(state.mutex);
  EXPECT_LE(state.flush_waiters.size(), 12U);
}

// The pin's own record is written, though it names slots of a write whose record, before it,
// failed.
TEST_F(StoreTest, APinBehindARecordThatFailsLeavesNothingBehind) {
  const auto with = options(2 * kSlab, 64 << 20);
  open_with_faults(with);
  const auto ns = space();
  const auto other = prompt(2, 1);  // whose segment the slot is in
  ASSERT_OK(put(*ns, other));
  ASSERT_OK(flush(*ns));
  ASSERT_OK(ns->set_pinned(keys_of(ns->geometry(), other).back(), true));
  const auto tokens = prompt(1, 1);
  const Key key = keys_of(ns->geometry(), tokens).back();
  std::promise<void> syncing;
  std::promise<void> pinned;
  faults().at_next_sync([&]() -> Status {
    syncing.set_value();
    pinned.get_future().wait();
    return fail(Code::kIo, "sync failed (injected)");
  });
  ASSERT_OK(put(*ns, tokens));
  syncing.get_future().wait();
  std::thread pinning([&] { EXPECT_OK(ns->set_pinned(key, true)); });
  while (!ns->find(key)->pinned) std::this_thread::yield();
  faults().no_space(true);  // nor is it written again
  pinned.set_value();
  pinning.join();
  ASSERT_EQ(ns->stats().nvme_blocks, 1U);
  ASSERT_OK(ns->set_pinned(key, false));
  ASSERT_OK(ns->evict(key));
  EXPECT_EQ(store_->stats().nvme.used, 65536U);
  ASSERT_OK(store_->close(in_seconds(20), false));
  open(with);
  EXPECT_EQ(store_->find_namespace("ns")->stats().blocks, 1U);
}

TEST_F(StoreTest, ANamespaceThatCannotBeRecordedLeavesNoFiles) {
  open(options(2 * kSlab, 64 << 20));
  const auto ns = space();
  const FailingJournal failing(*ns);
  EXPECT_EQ(store_->create_namespace("more", small_geometry(), {}).error().code, Code::kIo);
  EXPECT_EQ(store_->find_namespace("more"), nullptr);
  const std::filesystem::directory_iterator files(memory_.file("run") + "/namespaces");
  EXPECT_EQ(std::ranges::count_if(begin(files), end(files),
                                  [](const auto& entry) { return entry.is_directory(); }),
            1);
}

TEST_F(StoreTest, ASlowTierIsATimeoutNotAHang) {
  open_with_faults(options(2 * kSlab, 64 << 20));
  const auto ns = space();
  const auto tokens = prompt(1, 4);
  ASSERT_OK(put(*ns, tokens));
  ASSERT_OK(flush(*ns));
  ASSERT_OK(ns->evict_bytes("dram", 1 << 30));
  faults().freeze();
  auto lease = ns->lease(keys_of(ns->geometry(), tokens).back(), true);
  const auto start = Clock::now();
  const Status resident = wait_done([&](Done done) {
    (*lease)->when_resident(0, 0, 4, Clock::now() + std::chrono::milliseconds(100),
                            std::move(done));
  });
  EXPECT_EQ(resident.error().code, Code::kTimeout);
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(5));
  faults().thaw();
  EXPECT_OK(check_blocks(*ns, **lease, keys_of(ns->geometry(), tokens)));
}

// The last lease goes while its blocks are being read; the prefix is removed meanwhile.
TEST_F(StoreTest, ARemovedPrefixIsFreedWhenItsReadsEnd) {
  open_with_faults(options(2 * kSlab, 64 << 20));
  const auto ns = space();
  const auto tokens = prompt(1, 4);
  const auto keys = keys_of(ns->geometry(), tokens);
  ASSERT_OK(put(*ns, tokens));
  ASSERT_OK(flush(*ns));
  ASSERT_OK(ns->evict_bytes("dram", 1 << 30));
  faults().freeze();
  {
    auto lease = ns->lease(keys.back(), true);
    ASSERT_OK((*lease)->promote(0, 0, 4));
    const auto give_up = in_seconds(5);
    while (faults().held() < 4 && Clock::now() < give_up) std::this_thread::yield();
  }
  ASSERT_OK(ns->evict(keys.back()));
  EXPECT_EQ(ns->match(keys), 0U);
  EXPECT_EQ(store_->stats().nvme.used, 4U * 65536);
  faults().thaw();
  expect_tiers_empty();
}

TEST_F(StoreTest, APrefixRemovedDuringWriteBackLeavesNothing) {
  open_with_faults(options(2 * kSlab, 64 << 20));
  const auto ns = space();
  const auto tokens = prompt(1, 4);
  faults().freeze();
  ASSERT_OK(put(*ns, tokens));
  const auto give_up = in_seconds(5);
  while (faults().held() < 4 && Clock::now() < give_up) std::this_thread::yield();
  ASSERT_OK(ns->evict(keys_of(ns->geometry(), tokens).back()));
  faults().thaw();
  expect_tiers_empty();
  EXPECT_EQ(store_->stats().dirty_bytes, 0U);
  const auto with = options(2 * kSlab, 64 << 20);
  ASSERT_OK(store_->close(in_seconds(20), false));
  open(with);
  EXPECT_EQ(store_->find_namespace("ns")->stats().blocks, 0U);
}

// More than the backlog may wait, and then the oldest of what waits is dropped.
TEST_F(StoreTest, ABacklogThatIsTooLongIsDroppedFromItsEnd) {
  auto with = options(2 * kSlab, 64 << 20);
  with.writeback_backlog = 16 * 65536;
  open_with_faults(with);
  const auto ns = space();
  faults().no_space(true);
  for (std::uint32_t i = 0; i < 12; ++i) ASSERT_OK(put(*ns, prompt(i, 8)));
  EXPECT_LE(store_->stats().dirty_bytes, 64U * 65536);
  EXPECT_GT(ns->stats().evictions.dirty, 0U);
  EXPECT_EQ(ns->stats().evictions.capacity, 0U);
  EXPECT_OK(check_prefix(*ns, prompt(11, 8)));
  faults().no_space(false);
  ASSERT_OK(flush(*ns));
}

}  // namespace
}  // namespace kvfs::store
