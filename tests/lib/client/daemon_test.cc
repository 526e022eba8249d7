// What a client sees when daemons, other clients and forks come and go.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>
#include <kvfs/kvfs.hpp>
#include <nlohmann/json.hpp>

#include <atomic>
#include <chrono>
#include <thread>

#include "tests/lib/client/store_and_load.h"
#include "tests/support/child.h"
#include "tests/support/status_of.h"

namespace kvfs::test {
namespace {

class DaemonTest : public StoreAndLoad {};

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
  // Before anything was read: what the kernel has read ahead would be served without a daemon.
  daemon().freeze();
  kvfs_status status = KVFS_OK;
  std::thread reader([&] { status = status_of([&] { lease->load({0, 10}, loaded.pages()); }); });
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
  daemon().start();
  ASSERT_TRUE(
      eventually([&] { return status_of([&] { (void)client.match({tokens}); }) == KVFS_OK; }));
  // The slots may be another prompt's now.
  EXPECT_EQ(status_of([&] { reservation.store({0, 4}, cache.pages()); }), KVFS_UNAVAILABLE);
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

}  // namespace
}  // namespace kvfs::test
