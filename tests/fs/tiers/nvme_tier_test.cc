#include "fs/tiers/nvme_tier.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <future>
#include <random>
#include <set>

#include "fs/sync_point.h"
#include "fs/unique_fd.h"
#include "tests/fs/tiers/block_io.h"
#include "tests/support/frozen_file_system.h"
#include "tests/support/temp_directory.h"

namespace kvfs::tiers {
namespace {

using test::Memory;
using test::wait_read;
using test::wait_write;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

class NvmeTierTest : public testing::Test {
 protected:
  NvmeOptions options(std::uint64_t capacity = 64 * kMiB, std::size_t directories = 1) {
    NvmeOptions options{.segment_bytes = 8 * kMiB, .store_id = "store-1"};
    for (std::size_t i = 0; i < directories; ++i) {
      options.directories.push_back({directory_.file("d" + std::to_string(i)), capacity});
    }
    return options;
  }
  static std::unique_ptr<BlockTier> open(const NvmeOptions& options) {
    auto tier = open_nvme_tier(options);
    if (!tier) throw std::runtime_error(tier.error().message);
    return *std::move(tier);
  }
  static Error refused(const NvmeOptions& options) {
    auto tier = open_nvme_tier(options);
    return tier ? Error{Code::kInvalid, "it was not refused"} : tier.error();
  }
  std::uint64_t bytes_on_disk() {
    std::uint64_t bytes = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory_.path())) {
      if (entry.path().extension() == ".seg") bytes += entry.file_size();
    }
    return bytes;
  }
  test::TempDirectory directory_;
};

class NvmeBlocks : public NvmeTierTest,
                   public testing::WithParamInterface<std::tuple<int, bool>> {};

// Many blocks under way at once, of this size, in memory that is registered or not.
TEST_P(NvmeBlocks, ComeBackAsTheyWere) {
  const auto [kib, registered] = GetParam();
  const std::uint64_t bytes = static_cast<std::uint64_t>(kib) * 1024;
  const std::size_t count = std::min<std::size_t>(200, 48 * kMiB / bytes);
  auto tier = open(options(128 * kMiB, 2));
  Memory memory(count * bytes);
  if (registered) tier->register_memory(memory.all());
  std::vector<TierSlot> slots;
  test::Completions written;
  for (std::size_t i = 0; i < count; ++i) {
    auto slot = tier->allocate(bytes);
    ASSERT_TRUE(slot) << slot.error().message;
    slots.push_back(*slot);
    memory.fill(i * bytes, bytes, i);
    tier->write(*slot, memory.at(i * bytes, bytes), written.expect());
  }
  ASSERT_TRUE(written.wait_all());
  ASSERT_TRUE(tier->sync());
  std::memset(memory.all().data(), 0, memory.all().size());
  test::Completions read;
  for (std::size_t i = 0; i < count; ++i) {
    tier->read(slots[i], memory.at(i * bytes, bytes), read.expect());
  }
  ASSERT_TRUE(read.wait_all());
  for (std::size_t i = 0; i < count; ++i) EXPECT_TRUE(memory.holds(i * bytes, bytes, i)) << i;
  const TierUsage usage = tier->usage();
  EXPECT_EQ(usage.reads, count);
  EXPECT_EQ(usage.writes, count);
  EXPECT_EQ(usage.bytes_read, count * bytes);
  EXPECT_EQ(usage.used, count * bytes);
  EXPECT_EQ(usage.errors, 0U);
  EXPECT_EQ(usage.queued, 0U);
  if (registered) tier->unregister_memory(memory.all());
}
INSTANTIATE_TEST_SUITE_P(Sizes, NvmeBlocks,
                         testing::Combine(testing::Values(4, 12, 360, 512, 1028, 2048, 7 * 1024),
                                          testing::Bool()));

TEST_F(NvmeTierTest, CapacityIsHard) {
  auto tier = open(options(20 * kMiB));  // two segments of 8 MiB and one of 4
  std::vector<TierSlot> slots;
  Result<TierSlot> slot = tier->allocate(kMiB);
  for (; slot; slot = tier->allocate(kMiB)) slots.push_back(*slot);
  EXPECT_EQ(slot.error().code, Code::kNoSpace);
  EXPECT_EQ(slots.size(), 20U);
  EXPECT_LE(bytes_on_disk(), 20 * kMiB);
  EXPECT_EQ(tier->allocate(4096).error().code, Code::kNoSpace);
  std::set<std::pair<std::uint32_t, std::uint32_t>> distinct;
  for (const TierSlot taken : slots) distinct.insert({taken.segment, taken.slot});
  EXPECT_EQ(distinct.size(), slots.size());

  // An empty segment serves another size.
  const std::uint32_t segment = slots.front().segment;
  for (const TierSlot taken : slots) {
    if (taken.segment == segment) tier->free(taken);
  }
  EXPECT_TRUE(tier->allocate(4096));
  EXPECT_LE(bytes_on_disk(), 20 * kMiB);
  EXPECT_LE(tier->usage().reserved, tier->usage().capacity);
}

#ifndef NDEBUG  // sync points
TEST_F(NvmeTierTest, ASegmentThatIsBeingMadeIsWaitedForBeforeTheTierIsFull) {
  std::promise<void> making;
  std::promise<void> go_on;
  SyncPoints::instance().set("segments:making_ahead", [&] {
    making.set_value();
    go_on.get_future().wait();
  });
  auto tier = open(options(16 * kMiB));  // two segments of 8 slots
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(tier->allocate(kMiB));
  making.get_future().wait();  // the second one, ahead: it takes what is left of the capacity
  auto ninth = std::async(std::launch::async, [&] { return tier->allocate(kMiB); });
  ninth.wait_for(std::chrono::milliseconds(50));
  go_on.set_value();
  const auto slot = ninth.get();
  EXPECT_TRUE(slot) << slot.error().message;
  SyncPoints::instance().clear();
}
#endif

TEST_F(NvmeTierTest, SpareSegmentsMakeRoomForLargerSlots) {
  auto tier = open(options(24 * kMiB));
  std::vector<TierSlot> slots;
  for (auto slot = tier->allocate(kMiB); slot; slot = tier->allocate(kMiB)) slots.push_back(*slot);
  ASSERT_EQ(slots.size(), 24U);
  for (const TierSlot slot : slots) tier->free(slot);
  Memory memory(20 * kMiB);
  memory.fill(0, 20 * kMiB, 3);
  auto large = tier->allocate(20 * kMiB);
  ASSERT_TRUE(large) << large.error().message;
  EXPECT_LE(bytes_on_disk(), 24 * kMiB);
  ASSERT_TRUE(wait_write(*tier, *large, memory.all()));
  ASSERT_TRUE(wait_read(*tier, *large, memory.all()));
  EXPECT_TRUE(memory.holds(0, 20 * kMiB, 3));
}

TEST_F(NvmeTierTest, StripesOverDirectories) {
  auto tier = open(options(64 * kMiB, 3));
  std::vector<int> used(3, 0);
  for (int i = 0; i < 30; ++i) {
    auto slot = tier->allocate(kMiB);
    ASSERT_TRUE(slot);
    ++used[slot->segment % 3];
    EXPECT_EQ(slot->segment % 3, static_cast<std::uint32_t>(i % 3));
  }
  EXPECT_THAT(used, testing::Each(10));
}

TEST_F(NvmeTierTest, RestartFindsWhatIsClaimed) {
  std::vector<TierSlot> slots;
  Memory memory(kMiB);
  {
    auto tier = open(options(64 * kMiB, 2));
    for (std::uint64_t i = 0; i < 20; ++i) {
      slots.push_back(*tier->allocate(kMiB));
      memory.fill(0, kMiB, i);
      ASSERT_TRUE(wait_write(*tier, slots.back(), memory.all()));
    }
    ASSERT_TRUE(tier->sync());
  }
  NvmeOptions swapped = options(64 * kMiB, 2);
  std::swap(swapped.directories[0], swapped.directories[1]);
  auto tier = open(swapped);
  for (std::size_t i = 0; i < slots.size(); i += 2) ASSERT_TRUE(tier->claim(slots[i], kMiB));
  EXPECT_EQ(tier->claim(slots[0], kMiB).error().code, Code::kExists);
  EXPECT_EQ(tier->claim(slots[2], 4096).error().code, Code::kMismatch);
  EXPECT_EQ(tier->claim({slots[0].segment, 8}, kMiB).error().code, Code::kCorrupt);
  EXPECT_EQ(tier->claim({1000, 0}, kMiB).error().code, Code::kNotFound);
  for (std::size_t i = 0; i < slots.size(); i += 2) {
    ASSERT_TRUE(wait_read(*tier, slots[i], memory.all()));
    EXPECT_TRUE(memory.holds(0, kMiB, i));
  }
  std::set<std::pair<std::uint32_t, std::uint32_t>> taken;
  for (std::size_t i = 0; i < slots.size(); i += 2) taken.insert({slots[i].segment, slots[i].slot});
  std::size_t more = 0;
  for (auto slot = tier->allocate(kMiB); slot; slot = tier->allocate(kMiB), ++more) {
    EXPECT_TRUE(taken.insert({slot->segment, slot->slot}).second);
  }
  EXPECT_EQ(more, 128U - 10U);
  EXPECT_EQ(tier->claim(slots[1], kMiB).error().code, Code::kInvalid) << "claims have ended";
}

TEST_F(NvmeTierTest, SurvivesSigkillAndLetsTheNextIn) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    auto tier = open(options());
    Memory memory(kMiB);
    memory.fill(0, kMiB, 9);
    const TierSlot slot = *tier->allocate(kMiB);
    const bool ok = wait_write(*tier, slot, memory.all()) && tier->sync();
    if (ok) (void)!::write(ready[1], &slot, sizeof(slot));
    ::pause();
    ::_exit(1);
  }
  TierSlot slot;
  ASSERT_EQ(::read(ready[0], &slot, sizeof(slot)), static_cast<ssize_t>(sizeof(slot)));
  const Error busy = refused(options());
  EXPECT_EQ(busy.code, Code::kBusy);
  EXPECT_THAT(busy.message, testing::HasSubstr(directory_.file("d0")));
  EXPECT_THAT(busy.message, testing::HasSubstr("process " + std::to_string(child)));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ::close(ready[0]);
  ::close(ready[1]);

  auto tier = open(options());
  Memory memory(kMiB);
  ASSERT_TRUE(tier->claim(slot, kMiB));
  ASSERT_TRUE(wait_read(*tier, slot, memory.all()));
  EXPECT_TRUE(memory.holds(0, kMiB, 9));
}

TEST_F(NvmeTierTest, RefusesDirectoriesThatAreNotItsOwn) {
  std::filesystem::create_directory(directory_.file("d0"));
  std::ofstream(directory_.file("d0") + "/thesis.tex") << "precious";
  const Error foreign = refused(options());
  EXPECT_THAT(foreign.message, testing::HasSubstr("thesis.tex"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory_.file("d0")), {}), 1)
      << "nothing was written";

  std::filesystem::remove(directory_.file("d0") + "/thesis.tex");
  std::filesystem::create_directory(directory_.file("d0") + "/lost+found");
  open(options()).reset();

  NvmeOptions other = options();
  other.store_id = "store-2";
  EXPECT_EQ(refused(other).code, Code::kMismatch);
  EXPECT_THAT(refused(other).message, testing::HasSubstr("store-1"));
  EXPECT_THAT(refused(options(64 * kMiB, 2)).message,
              testing::HasSubstr("one of 1 directories of its store, but 2 are given"));
  NvmeOptions twice = options(64 * kMiB, 1);
  twice.directories.push_back(twice.directories.front());
  EXPECT_EQ(refused(twice).code, Code::kBusy);

  const std::string marker = directory_.file("d0") + "/kvfs-tier.json";
  std::ofstream(marker) << R"({"format": 99, "store_id": "store-1", "index": 0, "directories": 1})";
  EXPECT_EQ(refused(options()).code, Code::kMismatch);
  std::ofstream(marker) << "{";
  EXPECT_EQ(refused(options()).code, Code::kCorrupt);
  std::ofstream(marker) << R"({"format": 1})";
  EXPECT_EQ(refused(options()).code, Code::kCorrupt);
}

TEST_F(NvmeTierTest, RefusesMoreThanTheDiskHas) {
  const Error error = refused(options(std::uint64_t{1} << 60));
  EXPECT_EQ(error.code, Code::kNoSpace);
  EXPECT_FALSE(std::filesystem::exists(directory_.file("d0") + "/kvfs-tier.json"));
}

TEST_F(NvmeTierTest, LeavesForeignFilesAlone) {
  open(options()).reset();
  const std::string segments = directory_.file("d0") + "/segments/";
  const std::vector<std::string> foreign = {segments + "notes.txt", segments + "007.seg",
                                            directory_.file("d0") + "/README"};
  for (const std::string& path : foreign) std::ofstream(path) << "kept";
  std::filesystem::create_directory(segments + "0.seg");  // in the way of the first segment
  {
    auto tier = open(options());
    std::size_t slots = 0;
    while (tier->allocate(kMiB)) ++slots;
    EXPECT_EQ(slots, 64U);
  }
  for (const std::string& path : foreign) EXPECT_EQ(std::filesystem::file_size(path), 4U) << path;
  EXPECT_TRUE(std::filesystem::is_directory(segments + "0.seg"));
}

TEST_F(NvmeTierTest, UnclaimedAndHalfMadeSegmentsAreUsedOrRemoved) {
  open(options()).reset();
  const std::string segments = directory_.file("d0") + "/segments/";
  std::ofstream(segments + "0.seg") << "killed while it was made";
  std::ofstream(segments + "5.seg").close();
  std::filesystem::resize_file(segments + "5.seg", 8 * kMiB);  // a hole, not preallocated
  auto tier = open(options());
  std::size_t slots = 0;
  while (tier->allocate(kMiB)) ++slots;
  EXPECT_EQ(slots, 64U);
  EXPECT_EQ(bytes_on_disk(), 64 * kMiB);
}

TEST_F(NvmeTierTest, WrongCallsAreToldAtDone) {
  auto tier = open(options());
  Memory memory(2 * kMiB);
  const TierSlot slot = *tier->allocate(kMiB);
  EXPECT_EQ(wait_read(*tier, {4, 0}, memory.at(0, kMiB)).error().code, Code::kInvalid);
  EXPECT_EQ(wait_read(*tier, slot, memory.at(0, 2 * kMiB)).error().code, Code::kInvalid);
  EXPECT_EQ(wait_read(*tier, slot, memory.at(512, 4096)).error().code, Code::kInvalid);
  EXPECT_EQ(wait_write(*tier, slot, memory.at(0, 1000)).error().code, Code::kInvalid);
  EXPECT_EQ(tier->allocate(1000).error().code, Code::kInvalid);
  tier->free(slot);
  EXPECT_EQ(wait_read(*tier, slot, memory.at(0, kMiB)).error().code, Code::kInvalid);
  EXPECT_EQ(tier->usage().used, 0U);
}

TEST_F(NvmeTierTest, AnErrorOfTheDeviceReachesDone) {
  auto tier = open(options());
  Memory memory(kMiB);
  const TierSlot slot = *tier->allocate(kMiB);
  ASSERT_TRUE(wait_write(*tier, slot, memory.all()));
  // Cut off behind the tier's back: the read ends before the block does.
  std::filesystem::resize_file(directory_.file("d0") + "/segments/0.seg", kMiB / 2);
  const Status short_read = wait_read(*tier, slot, memory.all());
  ASSERT_FALSE(short_read);
  EXPECT_EQ(short_read.error().code, Code::kIo);
  EXPECT_THAT(short_read.error().message, testing::HasSubstr("0.seg"));
  EXPECT_EQ(tier->usage().errors, 1U);
}

// ramfs knows no O_DIRECT.
TEST_F(NvmeTierTest, RefusesAFileSystemWithoutDirectIo) {
  const std::string point = directory_.file("ram");
  std::filesystem::create_directory(point);
  if (::mount("none", point.c_str(), "ramfs", 0, nullptr) != 0) {
    GTEST_SKIP() << "needs the right to mount";
  }
  NvmeOptions ram = options();
  ram.directories.front().path = point;
  const Error error = refused(ram);
  EXPECT_EQ(error.code, Code::kUnavailable);
  EXPECT_THAT(error.message,
              testing::AllOf(testing::HasSubstr(point), testing::HasSubstr("O_DIRECT")));
  EXPECT_TRUE(std::filesystem::is_empty(point));
  ::umount(point.c_str());
}

TEST_F(NvmeTierTest, DoneWaitsUntilTheKernelLetsGoOfTheMemory) {
  test::FrozenFileSystem ext4(directory_.path().string());
  if (!ext4.mounted()) GTEST_SKIP() << "needs the right to mount, loop devices and mkfs.ext4";
  NvmeOptions frozen = options(32 * kMiB);
  frozen.directories.front().path = ext4.point();  // with its lost+found
  frozen.io_timeout_ms = 200;
  auto tier = open(frozen);
  Memory memory(4 * kMiB);
  const TierSlot slot = *tier->allocate(2 * kMiB);
  const TierSlot other = *tier->allocate(2 * kMiB);
  memory.fill(0, 2 * kMiB, 1);
  ASSERT_TRUE(wait_write(*tier, other, memory.at(0, 2 * kMiB)));
  ASSERT_TRUE(ext4.freeze());
  // A write that no thread of the kernel has begun is taken back at the deadline, and done: once
  // more then. On a busy machine that happens.
  bool held = false;
  bool read = false;
  for (int tries = 0; tries < 5 && !held; ++tries) {
    test::Completions write;
    tier->write(slot, memory.at(0, 2 * kMiB), write.expect());
    // Reads go on meanwhile; well beyond the deadline the write is still not done.
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(600);
    while (std::chrono::steady_clock::now() < until) {
      read |= wait_read(*tier, other, memory.at(2 * kMiB, 2 * kMiB)).has_value();
    }
    held = write.left() == 1;
    if (held) ext4.thaw();
    EXPECT_EQ(write.wait_all().error().code, Code::kTimeout);
  }
  EXPECT_TRUE(read && memory.holds(2 * kMiB, 2 * kMiB, 1));
  ASSERT_TRUE(held) << "done was called while the kernel had the memory";
  EXPECT_TRUE(wait_write(*tier, slot, memory.at(0, 2 * kMiB))) << "and all is well again";
}

// A read submits the next from its `done`, on the queue's thread, while slabs come and go.
TEST_F(NvmeTierTest, DoneMaySubmitAgain) {
  auto tier = open(options());
  Memory memory(8 * kMiB);
  const TierSlot slot = *tier->allocate(kMiB);
  memory.fill(0, kMiB, 1);
  ASSERT_TRUE(wait_write(*tier, slot, memory.at(0, kMiB)));
  test::Completions all;
  std::atomic<int> left{100};
  const IoDone over = all.expect();
  std::function<void(Status)> next = [&](Status status) {
    if (!status || --left == 0) return over(std::move(status));
    tier->read(slot, memory.at(kMiB, kMiB), next);
  };
  tier->read(slot, memory.at(kMiB, kMiB), next);
  for (int i = 0; i < 20; ++i) {
    tier->register_memory(memory.at(0, 4 * kMiB));
    tier->unregister_memory(memory.at(0, 4 * kMiB));
  }
  ASSERT_TRUE(all.wait_all());
  EXPECT_EQ(left, 0);
  EXPECT_TRUE(memory.holds(kMiB, kMiB, 1));
}

// Writers, readers and syncs at once, each checking its own blocks.
TEST_F(NvmeTierTest, ManyThreads) {
  auto tier = open(options(256 * kMiB, 2));
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (std::uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const std::uint64_t bytes = (t % 2 == 0) ? 360 * 1024 : 68 * 1024;
      Memory memory(8 * bytes);
      if (t < 2) tier->register_memory(memory.all());
      for (std::uint64_t round = 0; round < 15; ++round) {
        std::vector<TierSlot> slots;
        test::Completions written, read;
        for (std::uint64_t i = 0; i < 8; ++i) {
          slots.push_back(*tier->allocate(bytes));
          memory.fill(i * bytes, bytes, t * 1000 + round * 10 + i);
          tier->write(slots[i], memory.at(i * bytes, bytes), written.expect());
        }
        if (!written.wait_all()) ++wrong;
        if (round % 5 == 0 && !tier->sync()) ++wrong;
        std::memset(memory.all().data(), 0, memory.all().size());
        for (std::uint64_t i = 0; i < 8; ++i) {
          tier->read(slots[i], memory.at(i * bytes, bytes), read.expect());
        }
        if (!read.wait_all()) ++wrong;
        for (std::uint64_t i = 0; i < 8; ++i) {
          if (!memory.holds(i * bytes, bytes, t * 1000 + round * 10 + i)) ++wrong;
          tier->free(slots[i]);
        }
      }
      tier->unregister_memory(memory.all());
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(tier->usage().used, 0U);
}

}  // namespace
}  // namespace kvfs::tiers
