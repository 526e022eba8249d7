#include "fs/tiers/uring_queue.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "tests/fs/tiers/block_io.h"
#include "tests/support/temp_directory.h"

namespace kvfs::tiers {
namespace {

using namespace std::chrono_literals;
using test::Completions;
using test::Memory;

class UringQueueTest : public testing::Test {
 protected:
  std::unique_ptr<UringQueue> open(UringOptions options) {
    options.name = "test";
    auto queue = UringQueue::open(options, counters_);
    if (!queue) throw std::runtime_error(queue.error().message);
    return *std::move(queue);
  }
  std::shared_ptr<IoFile> file(const std::string& name, std::uint64_t bytes) {
    const std::string path = directory_.file(name);
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) throw std::runtime_error(path);
    return std::make_shared<IoFile>(std::move(fd), path);
  }
  // A file whose reads wait, as those of a device that hangs, until something is written to `feed`.
  std::shared_ptr<IoFile> hanging(UniqueFd& feed) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe");
    feed = UniqueFd(ends[1]);
    return std::make_shared<IoFile>(UniqueFd(ends[0]), "hanging device");
  }
  test::TempDirectory directory_;
  IoCounters counters_;
};

TEST_F(UringQueueTest, AHangingDeviceTimesOutAndOthersGoOn) {
  auto queue = open({.depth = 8, .timeout = 100ms});
  UniqueFd feed;
  auto hung = hanging(feed);
  auto disk = file("disk", 1 << 20);
  Memory memory(4 << 20);
  Completions slow, fast;
  const auto start = std::chrono::steady_clock::now();
  queue->read(hung, 0, memory.at(0, 4096), slow.expect());
  for (int i = 0; i < 20; ++i) queue->read(disk, 0, memory.at(1 << 20, 1 << 20), fast.expect());
  EXPECT_TRUE(fast.wait_all());
  EXPECT_EQ(slow.left(), 1);
  const Status status = slow.wait_all();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kTimeout);
  EXPECT_THAT(status.error().message, testing::HasSubstr("hanging device"));
  const auto took = std::chrono::steady_clock::now() - start;
  EXPECT_GE(took, 100ms);
  EXPECT_LT(took, 5s);
  EXPECT_EQ(counters_.errors, 1U);
  EXPECT_EQ(counters_.queued, 0U);
}

// Whoever is told of the first read finds the second one at the device: its bytes come without the
// queue's thread, which is here.
TEST_F(UringQueueTest, WhatWaitsGoesToTheDeviceBeforeAnybodyIsTold) {
  auto queue = open({.depth = 1});
  UniqueFd first_feed, second_feed;
  auto first = hanging(first_feed);
  auto second = file("second", 4096);
  Memory memory(12 << 10);
  memory.fill(0, 4096, 1);
  ASSERT_EQ(::pwrite(second->fd.get(), memory.all().data(), 4096, 0), 4096);
  Completions both;
  std::atomic<bool> came = false;
  const IoDone told = both.expect();
  queue->read(first, 0, memory.at(4096, 4096), [&](Status status) {
    const auto end = std::chrono::steady_clock::now() + 5s;
    while (!came && std::chrono::steady_clock::now() < end) came = memory.holds(8192, 4096, 1);
    told(std::move(status));
  });
  queue->read(second, 0, memory.at(8192, 4096), both.expect());
  std::this_thread::sleep_for(20ms);  // until both are with the queue
  ASSERT_EQ(::write(first_feed.get(), memory.all().data(), 4096), 4096);
  EXPECT_TRUE(both.wait_all());
  EXPECT_TRUE(came);
}

// All places at the device are taken by requests that hang: the ones behind them still end in time.
TEST_F(UringQueueTest, WhatWaitsBehindAHangingDeviceTimesOutToo) {
  auto queue = open({.depth = 2, .piece_bytes = 4096, .timeout = 50ms});
  UniqueFd feed;
  auto hung = hanging(feed);
  Memory memory(1 << 20);
  for (int round = 0; round < 3; ++round) {
    Completions all;
    for (int i = 0; i < 6; ++i) queue->read(hung, 0, memory.at(0, 64 << 10), all.expect());
    for (int i = 0; i < 6; ++i) {
      queue->write(file("w", 1 << 20), 0, memory.at(0, 64 << 10), all.expect());
    }
    EXPECT_EQ(all.wait_all().error().code, Code::kTimeout);
  }
  EXPECT_EQ(counters_.queued, 0U);
}

TEST_F(UringQueueTest, ShortReadsGoOn) {
  auto queue = open({.timeout = 5s});
  UniqueFd feed;
  auto pipe = hanging(feed);
  Memory source(64 << 10), target(64 << 10);
  source.fill(0, 64 << 10, 5);
  Completions one;
  queue->read(pipe, 0, target.all(), one.expect());
  // A reader of a pipe gets what is there, however much it asked for.
  for (std::size_t at = 0; at < 64 << 10; at += 8 << 10) {
    std::this_thread::sleep_for(2ms);
    ASSERT_EQ(::write(feed.get(), source.all().data() + at, 8 << 10), 8 << 10);
  }
  ASSERT_TRUE(one.wait_all());
  EXPECT_TRUE(target.holds(0, 64 << 10, 5));
}

// The last thing it is told may come together with the end.
TEST_F(UringQueueTest, EndsRightAfterARegistration) {
  Memory memory(64 << 10);
  for (int round = 0; round < 100; ++round) {
    auto queue = open({});
    queue->register_memory(memory.all());
    if (round % 2 == 0) queue->unregister_memory(memory.all());
  }
}

TEST_F(UringQueueTest, AnEarlyEndIsAnError) {
  auto queue = open({});
  Memory memory(1 << 20);
  Completions one;
  queue->read(file("short", 10 << 10), 0, memory.all(), one.expect());
  const Status status = one.wait_all();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kIo);
}

// Adjacent blocks go to the device together; where that fails, each is told its own fate.
TEST_F(UringQueueTest, MergedBlocksFailOneByOne) {
  auto queue = open({.depth = 1});
  Memory source(40 << 10), target(64 << 10);
  source.fill(0, 40 << 10, 6);
  auto cut = file("cut", 40 << 10);
  ASSERT_EQ(::pwrite(cut->fd.get(), source.all().data(), 40 << 10, 0), 40 << 10);
  for (int round = 0; round < 50; ++round) {
    Completions first, all[4];
    // Keeps the only place at the device taken while the others come in.
    queue->read(cut, 0, target.at(0, 4096), first.expect());
    for (std::size_t i = 0; i < 4; ++i) {
      queue->read(cut, i * (16 << 10), target.at(i * (16 << 10), 16 << 10), all[i].expect());
    }
    EXPECT_TRUE(all[0].wait_all());
    EXPECT_TRUE(all[1].wait_all());
    EXPECT_EQ(all[2].wait_all().error().code, Code::kIo);
    EXPECT_EQ(all[3].wait_all().error().code, Code::kIo);
    EXPECT_TRUE(target.holds(0, 40 << 10, 6));
    EXPECT_TRUE(first.wait_all());
  }
  EXPECT_EQ(counters_.errors, 100U);
  EXPECT_EQ(counters_.bytes_read, 50U * (36 << 10));
}

TEST_F(UringQueueTest, TheDestructorWaitsForWhatIsUnderWay) {
  Memory memory(8 << 20);
  Completions all;
  {
    auto queue = open({.depth = 2});
    auto disk = file("disk", 8 << 20);
    for (std::size_t i = 0; i < 32; ++i) {
      queue->write(disk, i % 8 << 20, memory.at(i % 8 << 20, 1 << 20), all.expect());
    }
  }
  EXPECT_EQ(all.left(), 0);
  EXPECT_TRUE(all.wait_all());
}

TEST_F(UringQueueTest, MoreRegistrationsThanTheTableHolds) {
  auto queue = open({.depth = 4});
  Memory memory(64 << 20);
  constexpr std::size_t kPart = 8 << 10;
  for (std::size_t at = 0; at < memory.all().size(); at += kPart) {
    queue->register_memory(memory.at(at, kPart));
  }
  auto disk = file("disk", 1 << 20);
  Completions all;
  for (std::size_t at = 0; at < memory.all().size(); at += 1 << 20) {
    queue->write(disk, 0, memory.at(at, kPart), all.expect());
    queue->write(disk, 0, memory.at(at, 2 * kPart), all.expect());  // across two registrations
  }
  EXPECT_TRUE(all.wait_all());
  for (std::size_t at = 0; at < memory.all().size(); at += kPart) {
    queue->unregister_memory(memory.at(at, kPart));
  }
  queue->register_memory(memory.all());
  queue->read(disk, 0, memory.at(0, 1 << 20), all.expect());
  EXPECT_TRUE(all.wait_all());
}

}  // namespace
}  // namespace kvfs::tiers
