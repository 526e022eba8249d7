// What is particular to device memory: streams, foreign pointers, a daemon that dies in between.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <kvfs/kvfs.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "tests/gpu/client/engine.h"
#include "tests/gpu/client/mounted_engine.h"
#include "tests/support/status_of.h"

namespace kvfs::test {
namespace {

using namespace std::chrono_literals;
using gpu::test::EngineStream;
using gpu::test::Where;

// 128 KiB a block.
const Model kModel{.layers = 16, .heads = 4, .dim = 32};
constexpr std::uint32_t kTokens = 16 * 64;  // 8 MiB: several parts

class DeviceMemory : public MountedEngine {
 protected:
  void SetUp() override {
    MountedEngine::SetUp();
    if (IsSkipped()) return;
    create("ns", kModel);
  }
  DaemonProcess::Options options() const override {
    return {.dram = "512MiB", .nvme = "512MiB", .more = {}};
  }
};

TEST_P(DeviceMemory, AStoreWaitsForWhatTheStreamHeldBefore) {
  Client client = open("ns");
  Engine cache(where(), kModel, {}, kTokens);
  Engine next(where(), kModel, {}, kTokens);
  Engine found(where(), kModel, {}, kTokens);
  EngineStream stream;
  for (int seed = 1; seed <= 3; ++seed) {
    cache.clear();
    next.fill(seed);
    stream.sleep(100ms);  // the forward pass
    stream.copy(cache.base(), next.base(), next.bytes());
    store(client, cache, seed, kTokens, {.stream = stream.handle()});
    load(client, found, seed, kTokens);
    EXPECT_TRUE(found.holds(seed, 0, kTokens));
  }
}

// By a thread that has never called CUDA, as an engine's connector has one for it.
TEST_P(DeviceMemory, DramIsMappedForTheDeviceBeforeItsFirstCopy) {
  Engine cache(where(), kModel, {}, kTokens);
  cache.fill(1);
  {
    Client first = open("ns");
    store(first, cache, 1, kTokens);
  }
  Client client = open("ns");
  std::uint64_t bytes = 0;
  std::thread([&] { bytes = client.map_slabs(cache.base()); }).join();
  EXPECT_EQ(bytes > 0, !GetParam().fallback);
  Engine found(where(), kModel, {}, kTokens);
  load(client, found, 1, kTokens);
  EXPECT_TRUE(found.holds(1, 0, kTokens));
}

// What is given to the stream after an asynchronous store was asked for is none of the store's
// business: it must not wait for that.
TEST_P(DeviceMemory, AnAsynchronousStoreWaitsForNoLaterWork) {
  Client client = open("ns");
  const auto tokens = prompt(1, kTokens);
  Engine cache(where(), kModel, {}, kTokens);
  cache.fill(1);
  EngineStream stream;
  Reservation reservation = client.reserve({tokens});
  Transfer transfer =
      reservation.begin_store({0, kTokens / 16}, cache.pages(), {.stream = stream.handle()});
  stream.sleep(3s);
  const auto begin = std::chrono::steady_clock::now();
  transfer.wait();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 2s);
  stream.wait();
}

TEST_P(DeviceMemory, ALoadWaitsForReadersOfItsPages) {
  Client client = open("ns");
  Engine cache(where(), kModel, {}, kTokens);
  Engine copied(where(), kModel, {}, kTokens);
  cache.fill(1);
  store(client, cache, 1, kTokens);
  cache.fill(2);
  EngineStream stream;
  stream.sleep(100ms);
  stream.copy(copied.base(), cache.base(), cache.bytes());
  load(client, cache, 1, kTokens, {.stream = stream.handle()});
  stream.wait();
  EXPECT_TRUE(cache.holds(1, 0, kTokens));
  EXPECT_TRUE(copied.holds(2, 0, kTokens));
}

TEST_P(DeviceMemory, AStreamMayGoWhileItsTransferRuns) {
  Client client = open("ns");
  const auto tokens = prompt(1, kTokens);
  Engine cache(where(), kModel, {}, kTokens);
  cache.fill(1);
  Engine found(where(), kModel, {}, kTokens);
  {
    EngineStream stream;
    stream.sleep(50ms);
    Reservation reservation = client.reserve({tokens});
    Transfer transfer =
        reservation.begin_store({0, kTokens / 16}, cache.pages(), {.stream = stream.handle()});
    stream.destroy();
    transfer.wait();
    reservation.commit();
  }
  load(client, found, 1, kTokens);
  EXPECT_TRUE(found.holds(1, 0, kTokens));
}

TEST_P(DeviceMemory, LoadsSignalTheirEvent) {
  Client client = open("ns");
  const auto tokens = prompt(1, kTokens);
  Engine cache(where(), kModel, {}, kTokens);
  cache.fill(1);
  store(client, cache, 1, kTokens);
  auto [lease, match] = client.acquire(Prompt{tokens});
  Engine found(where(), kModel, {}, kTokens);
  EngineStream stream;
  stream.sleep(1s);
  Transfer transfer =
      lease->begin_load({0, match.blocks}, found.pages(), {.stream = stream.handle()});
  pollfd event{.fd = transfer.event_fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&event, 1, 10), 0) << "the pages were not free yet";
  ASSERT_EQ(::poll(&event, 1, 10000), 1);
  EXPECT_TRUE(transfer.done());
  EXPECT_TRUE(found.holds(1, 0, kTokens));
}

// What is said to be there is there, while the other layers are on their way.
TEST_P(DeviceMemory, LayersArriveInOrder) {
  Client client = open("ns");
  const auto tokens = prompt(1, kTokens);
  Engine cache(where(), kModel, {}, kTokens);
  cache.fill(1);
  store(client, cache, 1, kTokens);
  auto [lease, match] = client.acquire(Prompt{tokens});
  for (const std::uint32_t step : {1U, 5U, 16U}) {
    Engine found(where(), kModel, {}, kTokens);
    EngineStream stream;
    stream.sleep(20ms);
    Transfer loading = lease->begin_load({0, match.blocks}, found.pages(),
                                         {.stream = stream.handle(), .layer_step = step});
    for (std::uint32_t layers = 1; layers <= kModel.layers; ++layers) {
      loading.wait_layers(layers);
      EXPECT_TRUE(found.holds_layers(1, layers)) << layers << " by " << step;
    }
    loading.wait();
    EXPECT_TRUE(found.holds(1, 0, kTokens));
  }
  // A rank's heads, some of the blocks.
  Engine rank(where(), kModel, {.axes = "LPKHT", .first_head = 1, .heads = 2}, kTokens);
  lease->load({8, 16}, rank.pages(), {.layer_step = 3});
  EXPECT_TRUE(rank.holds(1, 16 * 8, 16 * 24));
}

// One client, engines on two GPUs: each direction of each has lanes of its own.
TEST_P(DeviceMemory, TwoGpusAtOnce) {
  if (const char* why = gpu::test::no_cuda(Where::kSecondCuda); why != nullptr) GTEST_SKIP() << why;
  Client client = open("ns");
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (const Where own : {Where::kCuda, Where::kSecondCuda}) {
    const Where other = own == Where::kCuda ? Where::kSecondCuda : Where::kCuda;
    threads.emplace_back([&, own, other] {
      Engine from(own, kModel, {}, kTokens);
      Engine to(other, kModel, {.axes = "LPKHT"}, kTokens);
      for (int i = 0; i < 5; ++i) {
        const int seed = 10 + static_cast<int>(own) * 10 + i;
        from.fill(seed);
        store(client, from, seed, kTokens);
        to.clear();
        load(client, to, seed, kTokens);
        if (to.holds(seed, 0, kTokens)) ++good;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 10);
}

TEST_P(DeviceMemory, BothWaysAtOnceFromSeveralThreads) {
  Client client = open("ns");
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      Engine from(where(), kModel, {}, kTokens);
      Engine to(where(), kModel, {.axes = "LPKHT"}, kTokens);
      for (int i = 0; i < 5; ++i) {
        const int seed = 10 + thread * 10 + i;
        from.fill(seed);
        store(client, from, seed, kTokens);
        to.clear();
        load(client, to, seed, kTokens);
        if (to.holds(seed, 0, kTokens)) ++good;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 20);
}

TEST_P(DeviceMemory, MemoryThatIsNotTheDevicesIsRefused) {
  Client client = open("ns");
  const auto tokens = prompt(1, kTokens);
  Engine cache(where(), kModel, {}, kTokens);
  cache.fill(1);
  store(client, cache, 1, kTokens);
  const auto refused = [&client, &tokens](Engine& engine, const char* why) {
    Lease lease = client.acquire(client.match({tokens}).key);
    const kvfs_status status = status_of([&] { lease.load({0, kTokens / 16}, engine.pages()); });
    EXPECT_EQ(status, KVFS_INVALID) << why;
    EXPECT_THAT(kvfs_last_error(), ::testing::HasSubstr("layers["));
  };
  Engine host_layer(where(), kModel, {}, kTokens);
  std::vector<std::byte> host(1 << 20);
  host_layer.layers()[7] = host.data();
  refused(host_layer, "a pointer to host memory among the device's");
  Engine no_page(where(), kModel, {}, kTokens);
  no_page.table()[40] = 100000000;
  refused(no_page, "a page beyond the cache");
  // The device works as before.
  Engine found(where(), kModel, {}, kTokens);
  load(client, found, 1, kTokens);
  EXPECT_TRUE(found.holds(1, 0, kTokens));
}

TEST_P(DeviceMemory, ADaemonKilledInFlightHangsNobodyAndSpoilsNothing) {
  Engine cache(where(), kModel, {}, kTokens);
  for (int round = 1; round <= 6; ++round) {
    Client client = open("ns");
    const auto tokens = prompt(round, kTokens);
    cache.fill(round);
    store(client, cache, round, kTokens);
    const auto more = prompt(100 + round, kTokens);
    auto [lease, match] = client.acquire(Prompt{tokens});
    ASSERT_TRUE(lease);
    std::vector<Transfer> transfers;
    std::vector<std::unique_ptr<Engine>> found;
    Reservation reservation = client.reserve({more});
    for (int i = 0; i < 4; ++i) {
      found.push_back(std::make_unique<Engine>(where(), kModel, Layout{}, kTokens));
      transfers.push_back(lease->begin_load({0, match.blocks}, found.back()->pages()));
    }
    transfers.push_back(reservation.begin_store({0, kTokens / 16}, cache.pages()));
    std::this_thread::sleep_for(std::chrono::microseconds(200 * (round - 1)));
    daemon().kill();
    for (std::size_t i = 0; i < transfers.size(); ++i) {
      const kvfs_status status = status_of([&] {
        if (!transfers[i].wait_for(20000)) FAIL() << "still under way";
      });
      EXPECT_TRUE(status == KVFS_OK || status == KVFS_UNAVAILABLE || status == KVFS_NOT_FOUND)
          << kvfs_status_name(status) << ": " << kvfs_last_error();
      if (i < found.size() && status == KVFS_OK) {
        EXPECT_TRUE(found[i]->holds(round, 0, kTokens));
      }
    }
    daemon().start();
    Client again = open("ns");
    Engine after(where(), kModel, {}, kTokens);
    load(again, after, round, kTokens);
    EXPECT_TRUE(after.holds(round, 0, kTokens)) << "committed before the daemon died";
    EXPECT_EQ(again.match({more}).blocks, 0U) << "never committed";
  }
}

TEST_P(DeviceMemory, FromNvmeAfterARestart) {
  Engine cache(where(), kModel, {}, kTokens);
  const auto tokens = prompt(1, kTokens);
  {
    Client client = open("ns");
    cache.fill(1);
    store(client, cache, 1, kTokens);
    client.acquire(client.match({tokens}).key).flush();
  }
  daemon().stop();
  daemon().start();
  Client client = open("ns");
  Engine found(where(), kModel, {.axes = "LPKHT"}, kTokens);
  load(client, found, 1, kTokens);
  EXPECT_TRUE(found.holds(1, 0, kTokens));
}

INSTANTIATE_TEST_SUITE_P(Ways, DeviceMemory,
                         ::testing::Values(Way{gpu::test::Where::kCuda, false},
                                           Way{gpu::test::Where::kCuda, true}),
                         way_name);

}  // namespace
}  // namespace kvfs::test
