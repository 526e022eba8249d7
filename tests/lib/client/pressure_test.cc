// What a client sees when DRAM is too small, or the disk too slow, for what it asks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <kvfs/kvfs.hpp>

#include <atomic>
#include <chrono>
#include <csignal>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "tests/lib/client/store_and_load.h"
#include "tests/support/frozen_file_system.h"
#include "tests/support/status_of.h"

namespace kvfs::test {
namespace {

// DRAM of a fraction of what is stored: prefixes come and go through NVMe.
class SmallDram : public StoreAndLoad {
 protected:
  DaemonProcess::Options options() const override {
    return {.dram = "8MiB", .nvme = "256MiB", .more = {"--slab", "2MiB"}};
  }
  // All of it may leave DRAM when this returns.
  static void store_durably(Client& client, const std::vector<std::int32_t>& tokens, int seed) {
    store(client, tokens, seed);
    client.acquire(Prompt{tokens}).first->flush(60000);
  }
};

TEST_F(SmallDram, EvictedBlocksComeBackFromNvme) {
  Client client = open();
  // 32 KiB a block: 5 prefixes of 2 MiB beside 8 MiB of DRAM.
  for (int seed = 20; seed < 25; ++seed) store(client, some_tokens(16 * 64, seed), seed);
  for (int seed = 20; seed < 25; ++seed) {
    EXPECT_TRUE(loads(client, some_tokens(16 * 64, seed), seed)) << seed;
  }
}

TEST_F(SmallDram, APrefixLargerThanDramStreamsThrough) {
  Client client = open();
  std::vector<std::int32_t> tokens = some_tokens(16 * 400, 0);
  EngineCache cache(kShape, tokens.size());
  cache.fill(30);
  for (std::uint32_t end = 100; end <= 400; end += 100) {
    const std::span<const std::int32_t> part(tokens.data(), std::size_t{end} * 16);
    Reservation reservation = client.reserve({part});
    reservation.store({end - 100, 100}, cache.pages());
    reservation.commit();
  }
  auto [lease, match] = client.acquire(Prompt{tokens});
  ASSERT_EQ(match.blocks, 400U);
  EngineCache loaded(kShape, tokens.size());
  lease->load({0, 400}, loaded.pages());
  EXPECT_TRUE(loaded.holds(30, 0, tokens.size()));
  // And once more, the other way of loading.
  Client fallback = open({.force_fallback = true});
  auto [second, again] = fallback.acquire(Prompt{tokens});
  EngineCache read(kShape, tokens.size());
  second->load({0, 400}, read.pages());
  EXPECT_TRUE(read.holds(30, 0, tokens.size()));
}

TEST_F(SmallDram, MoreThanDramCanHoldIsRefusedWithASentence) {
  Client client = open();
  EXPECT_EQ(status_of([&] { (void)client.reserve({some_tokens(16 * 400, 31)}); }), KVFS_NO_SPACE);
  EXPECT_THAT(kvfs_last_error(), ::testing::HasSubstr("--dram"));
}

TEST_F(SmallDram, PrefetchBringsAPrefixBack) {
  Client client = open();
  const auto tokens = some_tokens(16 * 64, 40);
  store_durably(client, tokens, 40);
  for (int seed = 41; seed < 45; ++seed) store_durably(client, some_tokens(16 * 64, seed), seed);
  const kvfs_match_result cold = client.match({tokens});
  ASSERT_EQ(cold.blocks, 64U);
  client.prefetch(cold.key);
  EXPECT_TRUE(eventually([&] { return client.match({tokens}).dram_blocks == 64; }))
      << client.match({tokens}).dram_blocks << " of 64, were " << cold.dram_blocks << "\n"
      << daemon().read(".kvfs/stats.json");
}

TEST_F(SmallDram, SlabsMoveToTheNamespaceThatNeedsThem) {
  Client first = open();
  for (int seed = 50; seed < 54; ++seed) store_durably(first, some_tokens(16 * 60, seed), seed);
  // Another model needs DRAM: the first client, doing nothing, lets go of its slabs.
  Client::create_namespace(mount(), "other", c_geometry({{.layers = 2, .dim = 32}}, "other"));
  Client second(mount(), "other");
  const ModelShape shape{.layers = 2, .dim = 32};
  const auto tokens = some_tokens(16 * 100, 60);
  const auto stored = [&] {
    Reservation reservation = second.reserve({tokens});
    EngineCache cache(shape, tokens.size());
    cache.fill(60);
    const kvfs_range range = reservation.range();
    if (range.count > 0) reservation.store({range.first_block, range.count}, cache.pages());
    reservation.commit();
  };
  ASSERT_TRUE(eventually([&] { return status_of(stored) == KVFS_OK; })) << kvfs_last_error();
  auto [lease, match] = second.acquire(Prompt{tokens});
  EngineCache loaded(shape, tokens.size());
  lease->load({0, 100}, loaded.pages());
  EXPECT_TRUE(loaded.holds(60, 0, tokens.size()));
  for (int seed = 50; seed < 54; ++seed) {
    EXPECT_TRUE(loads(first, some_tokens(16 * 60, seed), seed)) << seed;
  }
}

// A disk that takes no more writes: DRAM cannot be emptied, so what is on NVMe cannot come back.
class FrozenDisk : public StoreAndLoad {
 protected:
  void SetUp() override {
    if (!disk_.mounted()) GTEST_SKIP() << "needs the right to mount, loop devices and mkfs.ext4";
    StoreAndLoad::SetUp();
  }
  void TearDown() override {
    disk_.thaw();
    StoreAndLoad::TearDown();
  }
  DaemonProcess::Options options() const override {
    return {.dram = "8MiB",
            .nvme = "64MiB",
            .nvme_directory = disk_.point() + "/kvfs",
            .more = {"--slab", "2MiB", "--writeback-backlog", "8MiB", "--nvme-timeout", "10min",
                     "--store-timeout", "100ms"}};
  }
  // Until all of the prompt has left DRAM: a lease that was closed holds it a moment longer.
  void evict(Client& client, const std::vector<std::int32_t>& tokens) {
    ASSERT_TRUE(eventually([&] {
      std::ofstream(mount() + "/ns/.kvfs/control")
          << R"({"op":"evict","tier":"dram","bytes":8388608})";
      return client.match({tokens}).dram_blocks == 0;
    }));
    ASSERT_EQ(client.match({tokens}).blocks * 16, tokens.size());
  }
  // Dirty blocks until no more have room.
  void fill(Client& client) {
    kvfs_status status = KVFS_OK;
    for (int seed = 100; seed < 140 && status == KVFS_OK; ++seed) {
      status = status_of([&] { store(client, some_tokens(16 * 16, seed), seed); });
    }
    ASSERT_EQ(status, KVFS_NO_SPACE) << kvfs_last_error();
  }
  // What the call ends with, and that it did at its deadline of `milliseconds`: not before, and
  // long before those that nobody asked for (a load's 30 s, the disk's 10 min).
  static kvfs_status ends_at(int milliseconds, const std::function<void()>& call) {
    using namespace std::chrono_literals;
    kvfs_status status = KVFS_NO_SPACE;
    std::chrono::steady_clock::duration waited{};
    // It may join a promotion that the daemon has tried for a while and gives up before the
    // deadline: not what this is about.
    for (int round = 0; round < 10 && status == KVFS_NO_SPACE; ++round) {
      const auto begin = std::chrono::steady_clock::now();
      status = status_of(call);
      waited = std::chrono::steady_clock::now() - begin;
    }
    EXPECT_GE(waited, std::chrono::milliseconds(milliseconds));
    EXPECT_LT(waited, 20s);
    return status;
  }

  TempDirectory directory_;
  FrozenFileSystem disk_{directory_.path().string()};
};

TEST_F(FrozenDisk, DeadlinesEndLoadsAndFlushes) {
  Client client = open();
  const auto tokens = some_tokens(16 * 64, 1);
  store(client, tokens, 1);
  client.acquire(Prompt{tokens}).first->flush(60000);
  ASSERT_NO_FATAL_FAILURE(evict(client, tokens));
  ASSERT_TRUE(disk_.freeze());
  ASSERT_NO_FATAL_FAILURE(fill(client));

  // Shorter than the daemon waits for the disk before it says that DRAM is full.
  constexpr int kMs = 50;
  Lease lease = client.acquire(client.match({tokens}).key);
  EngineCache loaded(kShape, tokens.size());
  EXPECT_EQ(ends_at(kMs,
                    [&] {
                      lease.load({0, 64}, loaded.pages(), {.timeout_ms = kMs});
                    }),
            KVFS_TIMEOUT);
  EXPECT_TRUE(loaded.untouched(0, tokens.size()));
  // A transfer's own deadline, not the waiter's, who has none.
  EXPECT_EQ(ends_at(kMs,
                    [&] {
                      lease.begin_load({0, 64}, loaded.pages(), {.timeout_ms = kMs}).wait();
                    }),
            KVFS_TIMEOUT);
  Client fallback = open({.force_fallback = true});
  Lease second = fallback.acquire(lease.key());
  EXPECT_EQ(ends_at(kMs,
                    [&] {
                      second.load({0, 64}, loaded.pages(), {.timeout_ms = kMs});
                    }),
            KVFS_TIMEOUT);

  Lease dirty = client.acquire(client.match({some_tokens(16 * 16, 100)}).key);
  EXPECT_EQ(ends_at(kMs, [&] { dirty.flush(kMs); }), KVFS_TIMEOUT);

  disk_.thaw();
  dirty.flush(60000);
  lease.load({0, 64}, loaded.pages());
  EXPECT_TRUE(loaded.holds(1, 0, tokens.size()));
}

class FrozenDiskAndSignals : public FrozenDisk {
 protected:
  DaemonProcess::Options options() const override {
    DaemonProcess::Options options = FrozenDisk::options();
    options.more.back() = "500ms";
    return options;
  }
};

TEST_F(FrozenDiskAndSignals, AStoreThatIsInterruptedDoesNotWaitAnew) {
  Client client = open();
  store(client, some_tokens(16 * 16, 1), 1);
  ASSERT_TRUE(disk_.freeze());
  ASSERT_NO_FATAL_FAILURE(fill(client));

  struct sigaction before {};
  struct sigaction interrupts {};
  interrupts.sa_handler = [](int) {};  // without SA_RESTART
  ASSERT_EQ(::sigaction(SIGUSR1, &interrupts, &before), 0);
  constexpr int kMost = 400;  // for many times the time that it may wait
  std::atomic<bool> over{false};
  std::atomic<int> sent{0};
  std::thread interrupting([&, caller = ::pthread_self()] {
    for (; !over && sent < kMost; ++sent) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      ::pthread_kill(caller, SIGUSR1);
    }
  });
  const kvfs_status status = status_of([&] { store(client, some_tokens(16 * 16, 200), 200); });
  over = true;
  interrupting.join();
  ::sigaction(SIGUSR1, &before, nullptr);
  EXPECT_EQ(status, KVFS_NO_SPACE) << kvfs_last_error();
  EXPECT_GE(sent, 2);
  EXPECT_LT(sent, kMost);
}

class DramOnly : public StoreAndLoad {
 protected:
  DaemonProcess::Options options() const override {
    return {.dram = "8MiB", .nvme = "", .more = {"--slab", "2MiB"}};
  }
};

TEST_F(DramOnly, LeasedBlocksAreNotEvictedAndTheWriterIsTold) {
  Client client = open();
  std::vector<Lease> leases;
  kvfs_status status = KVFS_OK;
  for (int seed = 1; seed < 10 && status == KVFS_OK; ++seed) {
    status = status_of([&] {
      store(client, some_tokens(16 * 64, seed), seed);
      leases.push_back(client.acquire(client.match({some_tokens(16 * 64, seed)}).key));
    });
  }
  EXPECT_EQ(status, KVFS_NO_SPACE);
  EXPECT_GE(leases.size(), 2U);
  leases.clear();
  EXPECT_EQ(status_of([&] { store(client, some_tokens(16 * 64, 20), 20); }), KVFS_OK);
}

}  // namespace
}  // namespace kvfs::test
