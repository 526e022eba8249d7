// What a client sees when daemons, other clients and forks come and go.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>
#include <kvfs/kvfs.hpp>
#include <nlohmann/json.hpp>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/lib/client/engine_cache.h"
#include "tests/support/child.h"
#include "tests/support/frozen_file_system.h"
#include "tests/support/mounted.h"
#include "tests/support/status_of.h"

namespace kvfs::test {
namespace {

constexpr ModelShape kShape;

class DaemonTest : public Mounted {
 protected:
  void SetUp() override {
    Mounted::SetUp();
    if (IsSkipped()) return;
    Client::create_namespace(mount(), "ns", c_geometry({kShape}));
  }
  Client open(const OpenOptions& options = {}) const { return Client(mount(), "ns", options); }

  static void store(Client& client, const std::vector<std::int32_t>& tokens, int seed) {
    Reservation reservation = client.reserve({tokens});
    const kvfs_range range = reservation.range();
    EngineCache cache(kShape, tokens.size());
    cache.fill(seed);
    reservation.store({range.first_block, range.count}, cache.pages());
    reservation.commit();
  }
  // Whether all of the prompt is cached. What is there must be right.
  static bool loads(Client& client, const std::vector<std::int32_t>& tokens, int seed) {
    auto [lease, match] = client.acquire(Prompt{tokens});
    if (!lease) return false;
    EngineCache loaded(kShape, tokens.size());
    lease->load({0, match.blocks}, loaded.pages());
    if (!loaded.holds(seed, 0, match.tokens)) throw std::logic_error("wrong bytes were loaded");
    return match.tokens == tokens.size();
  }
  int leases() {
    return nlohmann::json::parse(daemon().read("ns/.kvfs/stats.json"))["leases_open"];
  }
  std::uint64_t dram_used() {
    return nlohmann::json::parse(daemon().read(".kvfs/stats.json"))["tiers"]["dram"]["used"];
  }
};

TEST_F(DaemonTest, ARestartedDaemonIsFoundAgain) {
  Client client = open();
  const auto tokens = some_tokens(16 * 10, 1);
  store(client, tokens, 1);
  daemon().stop();
  daemon().start();
  ASSERT_TRUE(
      eventually([&] { return status_of([&] { (void)loads(client, tokens, 1); }) == KVFS_OK; }));
  EXPECT_TRUE(loads(client, tokens, 1));
  EXPECT_EQ(client.stats().reattached, 1U);
  store(client, some_tokens(16 * 4, 2), 2);
  EXPECT_TRUE(loads(client, some_tokens(16 * 4, 2), 2));
}

TEST_F(DaemonTest, AKilledDaemonMeansUnavailableAtOnceAndNoHang) {
  Client client = open();
  const auto tokens = some_tokens(16 * 10, 1);
  store(client, tokens, 1);
  const std::unique_ptr<Lease> lease = client.acquire(Prompt{tokens}).first;
  EngineCache loaded(kShape, tokens.size());
  lease->load({0, 10}, loaded.pages());
  daemon().kill();

  // Mapped memory outlives the daemon: what was leased is loaded still.
  EngineCache again(kShape, tokens.size());
  EXPECT_EQ(status_of([&] { lease->load({0, 10}, again.pages()); }), KVFS_OK);
  EXPECT_TRUE(again.holds(1, 0, tokens.size()));
  EXPECT_EQ(status_of([&] { (void)client.acquire(Prompt{tokens}); }), KVFS_UNAVAILABLE);
  EXPECT_EQ(status_of([&] { (void)client.reserve({some_tokens(32, 3)}); }), KVFS_UNAVAILABLE);
  EXPECT_EQ(status_of([&] { (void)client.match({tokens}); }), KVFS_UNAVAILABLE);
  EXPECT_THAT(kvfs_last_error(), ::testing::HasSubstr("daemon"));
  EXPECT_TRUE(loaded.holds(1, 0, tokens.size()));

  daemon().start();
  ASSERT_TRUE(
      eventually([&] { return status_of([&] { (void)client.match({tokens}); }) == KVFS_OK; }));
  // The next daemon knows nothing of the lease: from its start on the blocks may be anywhere.
  EXPECT_EQ(status_of([&] { lease->load({0, 10}, again.pages()); }), KVFS_UNAVAILABLE);
  // In DRAM only or on NVMe already: it has taken over both.
  EXPECT_TRUE(loads(client, tokens, 1));
}

TEST_F(DaemonTest, ALoadOnItsWayEndsWhenItsDaemonIsKilled) {
  Client client = open({.force_fallback = true});
  const auto tokens = some_tokens(16 * 10, 1);
  store(client, tokens, 1);
  const std::unique_ptr<Lease> lease = client.acquire(Prompt{tokens}).first;
  EngineCache loaded(kShape, tokens.size());
  lease->load({0, 1}, loaded.pages());
  daemon().freeze();
  kvfs_status status = KVFS_OK;
  std::thread reader([&] { status = status_of([&] { lease->load({1, 9}, loaded.pages()); }); });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  daemon().kill();
  reader.join();
  EXPECT_EQ(status, KVFS_UNAVAILABLE);
}

TEST_F(DaemonTest, AMissFindsTheNextDaemonToo) {
  // Without any call that could fail: the client's clock looks after the daemon.
  Client reader = open();
  const auto tokens = some_tokens(64, 5);
  EXPECT_EQ(reader.match({tokens}).blocks, 0U);
  daemon().stop();
  daemon().start();
  Client writer = open();
  store(writer, tokens, 5);
  EXPECT_TRUE(eventually([&] {
    kvfs_match_result match{};
    const kvfs_status status = status_of([&] { match = reader.match({tokens}); });
    return status == KVFS_OK && match.blocks == 4;
  }));
}

TEST_F(DaemonTest, ReservationsOfADeadDaemonAreLost) {
  Client client = open();
  const auto tokens = some_tokens(64, 6);
  Reservation reservation = client.reserve({tokens});
  EngineCache cache(kShape, 64);
  cache.fill(6);
  reservation.store({0, 4}, cache.pages());
  daemon().kill();
  reservation.store({0, 4}, cache.pages());  // mapped memory outlives the daemon
  EXPECT_EQ(status_of([&] { reservation.commit(); }), KVFS_UNAVAILABLE);
}

const ChildStep kReserve("reserve", [](const Words& words) {
  Client client(words[0], "ns");
  Reservation reservation = client.reserve({some_tokens(16 * 50, 7)});
  ::pause();
  return 0;
});

TEST_F(DaemonTest, AKilledWriterLeavesNoSlots) {
  Client client = open();
  const std::uint64_t before = dram_used();
  Child writer(kReserve, {mount()});
  EXPECT_TRUE(eventually([&] { return dram_used() > before; }));
  writer.kill();
  EXPECT_TRUE(eventually([&] { return dram_used() == before; }));  // after the quarantine
}

TEST_F(DaemonTest, ForkedChildIsRefusedAndHoldsNoLease) {
  Client client = open();
  const auto tokens = some_tokens(64, 8);
  store(client, tokens, 8);
  auto held = std::make_unique<Lease>(client.acquire(client.match({tokens}).key));
  EXPECT_EQ(leases(), 1);
  Child child([&] {
    if (status_of([&] { (void)client.match({tokens}); }) != KVFS_FORKED) return 1;
    if (std::string(kvfs_last_error()).find("child") == std::string::npos) return 2;
    EngineCache cache(kShape, 64);
    if (status_of([&] { held->load({0, 4}, cache.pages()); }) != KVFS_FORKED) return 3;
    if (status_of([&] { (void)client.reserve({tokens}); }) != KVFS_FORKED) return 4;
    return stop_here();
  });
  ASSERT_TRUE(child.stopped());
  held.reset();
  EXPECT_TRUE(eventually([&] { return leases() == 0; })) << "the child holds its parent's lease";
  EXPECT_EQ(child.go_on(), 0);
  EXPECT_TRUE(loads(client, tokens, 8));
}

TEST_F(DaemonTest, AForkedChildOpensItsOwn) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a client starts a thread, which ThreadSanitizer forbids to a forked child";
#endif
  Client client = open();
  const auto tokens = some_tokens(64, 8);
  store(client, tokens, 8);
  Child child([&] {
    Client own = open();
    return loads(own, tokens, 8) ? 0 : 1;
  });
  EXPECT_EQ(child.wait(), 0);
}

TEST_F(DaemonTest, EvictionBetweenMatchAndAcquire) {
  Client client = open();
  const auto tokens = some_tokens(64, 9);
  store(client, tokens, 9);
  const kvfs_match_result match = client.match({tokens});
  ASSERT_EQ(match.blocks, 4U);
  char name[64];
  std::snprintf(name, sizeof(name), "/ns/%016lx%016lx.safetensors", match.key.hi, match.key.lo);
  ASSERT_TRUE(std::filesystem::remove(mount() + name));
  EXPECT_EQ(status_of([&] { (void)client.acquire(match.key); }), KVFS_NOT_FOUND);
  EXPECT_EQ(client.stats().lost_leases, 1U);
  auto [lease, again] = client.acquire(Prompt{tokens});
  EXPECT_FALSE(lease);
  EXPECT_EQ(again.blocks, 0U);
}

TEST_F(DaemonTest, AKeyAskedForBeforeItIsStoredIsFoundAfterwards) {
  Client client = open();
  const auto tokens = some_tokens(64, 10);
  Reservation reservation = client.reserve({tokens});
  EngineCache cache(kShape, 64);
  reservation.store({0, 4}, cache.pages());
  // The key that commit will name, computed by storing the same in another namespace of equal
  // geometry: seeds do not depend on the name.
  Client::create_namespace(mount(), "twin", c_geometry({kShape}));
  Client twin(mount(), "twin");
  store(twin, tokens, 10);
  const kvfs_key key = twin.match({tokens}).key;
  EXPECT_EQ(status_of([&] { (void)client.acquire(key); }), KVFS_NOT_FOUND);
  reservation.commit();
  EXPECT_EQ(client.acquire(key).blocks(), 4U);
}

TEST_F(DaemonTest, AMatchBesideACommitSeesAllOfItOrNothing) {
  // More blocks than a client hashes before it asks the index whether to go on.
  constexpr std::uint32_t kCached = 100, kAll = 300;
  const ModelShape shape{.layers = 1, .heads = 1};
  Client::create_namespace(mount(), "small", c_geometry({shape}, "small"));
  Client client(mount(), "small");
  EngineCache cache(shape, 16 * kAll);
  for (int round = 0; round < 20; ++round) {
    const auto tokens = some_tokens(16 * kAll, 200 + round);
    Reservation first = client.reserve({std::span(tokens).first(16 * kCached)});
    first.store({0, kCached}, cache.pages());
    first.commit();
    Reservation rest = client.reserve({tokens});
    rest.store({kCached, kAll - kCached}, cache.pages());
    std::atomic<bool> wrong{false};
    std::thread reader([&] {
      std::uint32_t blocks = 0;
      while (blocks != kAll && !wrong) {
        blocks = client.match({tokens}).blocks;
        wrong = blocks != kCached && blocks != kAll;
      }
    });
    rest.commit();
    reader.join();
    ASSERT_FALSE(wrong);
  }
}

TEST_F(DaemonTest, MissesAndHitsAreReported) {
  Client client = open();
  const auto tokens = some_tokens(16 * 8, 11);
  EXPECT_FALSE(client.acquire(Prompt{tokens}).first);  // 8 asked for in vain
  store(client, tokens, 11);                           // says so
  const auto stats = nlohmann::json::parse(daemon().read("ns/.kvfs/stats.json"));
  EXPECT_EQ(stats["missed_blocks"], 8) << stats.dump();
  EXPECT_TRUE(loads(client, tokens, 11));
  const auto after = nlohmann::json::parse(daemon().read("ns/.kvfs/stats.json"));
  EXPECT_EQ(after["missed_blocks"], 8);
  EXPECT_EQ(after["hit_blocks"], 8) << after.dump();
}

TEST_F(DaemonTest, WhatNobodyWasAskedForIsReportedWhenTheClientCloses) {
  const auto tokens = some_tokens(16 * 8, 12);
  auto client = std::make_unique<Client>(mount(), "ns", OpenOptions{});
  store(*client, std::vector(tokens.begin(), tokens.begin() + 16 * 6), 12);
  EXPECT_FALSE(loads(*client, tokens, 12));  // 6 blocks of 8
  client.reset();
  const auto stats = nlohmann::json::parse(daemon().read("ns/.kvfs/stats.json"));
  EXPECT_EQ(stats["hit_blocks"], 6) << stats.dump();
  EXPECT_EQ(stats["missed_blocks"], 6 + 2) << stats.dump();  // before the store, and at the load
  EXPECT_EQ(stats["loaded_bytes"],
            6 * 16 * sizeof(float) * kShape.layers * kShape.heads * kShape.kv * kShape.dim)
      << stats.dump();
}

TEST_F(DaemonTest, OpeningWaitsForADaemonThatIsAboutToStart) {
  daemon().kill();  // leaves a mount that answers ENOTCONN
  EXPECT_EQ(status_of([&] { (void)open({.timeout_ms = 50}); }), KVFS_UNAVAILABLE);
  std::thread starting([&] { daemon().start(); });
  EXPECT_EQ(status_of([&] { (void)open({.timeout_ms = 20000}); }), KVFS_OK);
  starting.join();
}

TEST_F(DaemonTest, LeaseFlushMakesAPrefixDurable) {
  Client client = open();
  const auto tokens = some_tokens(16 * 20, 12);
  store(client, tokens, 12);
  auto [lease, match] = client.acquire(Prompt{tokens});
  lease->flush(20000);
  const auto stats = nlohmann::json::parse(daemon().read(".kvfs/stats.json"));
  EXPECT_EQ(stats["dirty_bytes"], 0) << stats.dump();
}

// DRAM of a fraction of what is stored: prefixes come and go through NVMe.
class SmallDram : public DaemonTest {
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
class FrozenDisk : public DaemonTest {
 protected:
  void SetUp() override {
    if (!disk_.mounted()) GTEST_SKIP() << "needs the right to mount, loop devices and mkfs.ext4";
    DaemonTest::SetUp();
  }
  void TearDown() override {
    disk_.thaw();
    DaemonTest::TearDown();
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

class DramOnly : public DaemonTest {
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
