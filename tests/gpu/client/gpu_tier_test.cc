// Loads from the GPU tier: a daemon that keeps hot blocks in a device's memory, clients that map
// it. Where there is no GPU host memory plays the part.
#include <gtest/gtest.h>
#include <sys/xattr.h>
#include <kvfs/kvfs.hpp>
#include <nlohmann/json.hpp>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/gpu/client/engine.h"
#include "tests/gpu/client/mounted_engine.h"
#include "tests/support/child.h"

namespace kvfs::test {
namespace {

using gpu::test::Where;

constexpr std::uint32_t kTokens = 16 * 40;

// Reads from the tier, says so and stops where it stands, for its parent to kill.
const ChildStep kReader("gpu_tier_reader", [](const Words& words) {
  const Where where = words.at(1) == "host" ? Where::kHost : Where::kCuda;
  if (where == Where::kCuda && gpu::test::no_cuda() != nullptr) return 3;  // which starts CUDA
  Client client(words.at(0), "ns");
  const Model model;
  Engine found(where, model, {}, kTokens);
  const auto tokens = prompt(1, kTokens);
  auto [lease, match] = client.acquire(Prompt{tokens});
  lease->load({0, match.blocks}, found.pages());
  if (!found.holds(1, 0, kTokens)) return 2;
  return stop_here();
});

class GpuTier : public MountedEngine {
 protected:
  DaemonProcess::Options options() const override {
    const std::string device = where() == Where::kHost ? "cpu" : "0";
    return {.dram = "64MiB",
            .nvme = "128MiB",
            .more = {"--gpu", device + ":32MiB", "--gpu-reserve", "64MiB"}};
  }
  nlohmann::json tier() {
    return nlohmann::json::parse(daemon().read(".kvfs/stats.json"))["tiers"]["gpu"];
  }
  // Loads until all of the prefix is there.
  void heat(Client& client, const Engine& engine, int seed, std::uint32_t blocks,
            const std::string& name = "ns") {
    for (int i = 0; i < 2; ++i) load(client, engine, seed, kTokens);
    ASSERT_TRUE(eventually([&] {
      return nlohmann::json::parse(
                 daemon().read(name + "/.kvfs/stats.json"))["tiers"]["gpu"]["blocks"] == blocks;
    }));
  }
  // Stores the prefix of seed 1 and heats it.
  void store_hot(Client& client, Engine& cache, const Engine& found,
                 const std::string& name = "ns") {
    cache.fill(1);
    store(client, cache, 1, kTokens);
    heat(client, found, 1, kTokens / 16, name);
  }
  // The same with memory of its own, which `found` has been loaded into.
  struct Hot {
    Client client;
    Engine cache, found;
  };
  Hot hot_prefix() {
    const Model model;
    create("ns", model);
    Hot hot{.client = open("ns"),
            .cache = Engine(where(), model, {}, kTokens),
            .found = Engine(where(), model, {}, kTokens)};
    store_hot(hot.client, hot.cache, hot.found);
    return hot;
  }
  // From wherever it is.
  void expect_loads(Client& client, Engine& found) {
    found.clear();
    load(client, found, 1, kTokens);
    EXPECT_TRUE(found.holds(1, 0, kTokens));
  }
  // With all that is in it.
  void remove(const std::string& name) {
    const std::filesystem::path directory = mount() + "/" + name;
    for (const auto& entry : std::filesystem::directory_iterator(directory)) {
      std::filesystem::remove(entry.path());
    }
    EXPECT_TRUE(std::filesystem::remove(directory));
  }
  // What clients have told of loads from there; those that heat() made while blocks came are in it.
  ::testing::AssertionResult told(std::uint64_t bytes) {
    if (eventually([&] { return tier()["bytes_out"] >= bytes; })) {
      return ::testing::AssertionSuccess();
    }
    return ::testing::AssertionFailure() << tier().dump() << ", less than " << bytes;
  }
};

TEST_P(GpuTier, AHotPrefixIsLoadedFromThere) {
  Hot hot = hot_prefix();
  expect_loads(hot.client, hot.found);
  EXPECT_TRUE(told(std::uint64_t{kTokens} / 16 * hot.client.block_bytes()));
  for (const auto& entry : std::filesystem::directory_iterator(mount() + "/ns")) {
    char tiers[64] = {};
    ASSERT_GT(::getxattr(entry.path().c_str(), "user.kvfs.tiers", tiers, sizeof(tiers) - 1), 0);
    EXPECT_TRUE(std::string(tiers).starts_with("gpu:40 dram:40")) << tiers;
  }
}

TEST_P(GpuTier, LoadsWhatDramHasNoMore) {
  Hot hot = hot_prefix();
  // More than DRAM holds; none of it hot.
  for (int seed = 2; seed < 60; ++seed) {
    Engine other(where(), Model{}, {}, kTokens);
    other.fill(seed);
    store(hot.client, other, seed, kTokens);
  }
  const auto dram = [&] {
    return nlohmann::json::parse(daemon().read("ns/.kvfs/stats.json"))["tiers"]["dram"]["blocks"];
  };
  EXPECT_LT(dram(), 59 * 40);
  expect_loads(hot.client, hot.found);
  EXPECT_TRUE(told(std::uint64_t{kTokens} / 16 * hot.client.block_bytes()));
}

TEST_P(GpuTier, PartsOfBlocksAndOfLayersAndTheRestFromDram) {
  const Model model{.layers = 12};
  create("ns", model);
  Client client = open("ns");
  Engine cache(where(), model, {}, kTokens);
  cache.fill(1);
  store(client, cache, 1, kTokens / 2);
  Engine half(where(), model, {}, kTokens);
  for (int i = 0; i < 2; ++i) load(client, half, 1, kTokens / 2);
  ASSERT_TRUE(eventually([&] { return tier()["blocks"] == kTokens / 32; }));
  store(client, cache, 1, kTokens);  // the second half is in DRAM only
  for (const std::uint32_t step : {0U, 1U, 5U}) {
    Engine found(where(), model, {}, kTokens);
    load(client, found, 1, kTokens, {.layer_step = step});
    EXPECT_TRUE(found.holds(1, 0, kTokens)) << "step " << step;
  }
  Engine rank(where(), model, {.axes = "LPKHT", .first_head = 1, .heads = 2}, kTokens);
  load(client, rank, 1, kTokens);
  EXPECT_TRUE(rank.holds(1, 0, kTokens));
}

TEST_P(GpuTier, EncodedBlocks) {
  for (const char* encoding : {"packed", "fp8", "int8"}) {
    SCOPED_TRACE(encoding);
    const Model model{.encoding = encoding};
    create(encoding, model);
    Client client = open(encoding);
    Engine cache(where(), model, {}, kTokens);
    Engine found(where(), model, {.axes = "LPKHT"}, kTokens);
    store_hot(client, cache, found, encoding);
    found.clear();
    load(client, found, 1, kTokens);
    EXPECT_TRUE(found.holds(1, 0, kTokens));
    Engine rank(where(), model, {.first_head = 2, .heads = 1}, kTokens);
    load(client, rank, 1, kTokens);
    EXPECT_TRUE(rank.holds(1, 0, kTokens));
  }
}

// Another program takes all that the device has; the tier's share is given to it.
TEST_P(GpuTier, WhoNeedsTheDevicesMemoryGetsIt) {
  if (where() == Where::kHost) GTEST_SKIP() << "a machine's memory is not for a test to fill";
  Hot hot = hot_prefix();
  load(hot.client, hot.found, 1, kTokens);
  {
    std::vector<std::unique_ptr<gpu::test::EngineMemory>> taken;
    for (const std::size_t piece : {std::size_t{1} << 30, std::size_t{16} << 20}) {
      try {
        for (;;) taken.push_back(gpu::test::allocate(where(), piece));
      } catch (const std::runtime_error&) {  // there is no more
      }
    }
    taken.resize(taken.size() - 2);  // less than the reserve is free
    EXPECT_TRUE(eventually([&] { return tier()["reserved"] == 0; })) << tier().dump();
    EXPECT_NO_THROW(taken.push_back(gpu::test::allocate(where(), 16 << 20)));
    expect_loads(hot.client, hot.found);
  }
  heat(hot.client, hot.found, 1, kTokens / 16);
  expect_loads(hot.client, hot.found);
}

// What the daemon counts are descriptors, and those of a dead process are closed.
TEST_P(GpuTier, AKilledClientLeavesNothing) {
  const Model model;
  create("ns", model);
  Client client = open("ns");
  Engine cache(where(), model, {}, kTokens);
  store_hot(client, cache, cache);
  Child reader(kReader, {mount(), where() == Where::kHost ? "host" : "cuda"});
  ASSERT_TRUE(reader.stopped());
  reader.kill();
  client = Client(mount(), "ns");  // this process has nothing mapped either
  remove("ns");
  EXPECT_TRUE(eventually([&] { return tier()["reserved"] == 0; }));
}

// Slabs that clients have mapped go when those have heard of it.
TEST_P(GpuTier, ANamespaceThatGoesGivesTheMemoryBack) {
  const Model model;
  create("ns", model);
  {
    Client client = open("ns");
    Engine cache(where(), model, {}, kTokens);
    store_hot(client, cache, cache);
    load(client, cache, 1, kTokens);
  }
  EXPECT_GT(tier()["reserved"], 0);
  remove("ns");
  EXPECT_TRUE(eventually([&] { return tier()["reserved"] == 0; }));
}

TEST_P(GpuTier, ADaemonThatStartsAgainBeginsAnew) {
  Hot hot = hot_prefix();
  load(hot.client, hot.found, 1, kTokens);
  daemon().kill();
  daemon().start();
  ASSERT_TRUE(eventually([&] {
    try {
      hot.found.clear();
      const auto tokens = prompt(1, kTokens);
      auto [lease, match] = hot.client.acquire(Prompt{tokens});
      if (!lease) return false;
      lease->load({0, match.blocks}, hot.found.pages());
      return true;
    } catch (const Error&) {
      return false;
    }
  }));
  EXPECT_TRUE(hot.found.holds(1, 0, kTokens));
  heat(hot.client, hot.found, 1, kTokens / 16);
  expect_loads(hot.client, hot.found);
}

INSTANTIATE_TEST_SUITE_P(Ways, GpuTier,
                         ::testing::Values(Way{Where::kHost, false}, Way{Where::kCuda, false}),
                         way_name);

}  // namespace
}  // namespace kvfs::test
