// Slabs that are mapped before their first use.
//
// What is the library's own comes first: kvfs.hpp has names of its inside, too.
#include "lib/client/descriptor.h"
#include "lib/client/devices.h"
#include "lib/client/ioctl_calls.h"
#include "lib/client/slab_map.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <kvfs/kvfs.hpp>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/lib/client/store_and_load.h"
#include "tests/support/status_of.h"

namespace kvfs::test {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;

// This process's mappings of the namespace's slabs, as the kernel lists them.
std::vector<std::string> mappings() {
  std::ifstream maps("/proc/self/maps");
  std::vector<std::string> found;
  for (std::string line; std::getline(maps, line);) {
    if (line.find("/ns/.kvfs/slabs/") != std::string::npos) found.push_back(line);
  }
  return found;
}

std::uint64_t mapped_bytes() {
  std::uint64_t bytes = 0;
  for (const std::string& line : mappings()) {
    std::size_t digits = 0;
    const std::uint64_t begin = std::stoull(line, &digits, 16);
    bytes += std::stoull(line.substr(digits + 1), nullptr, 16) - begin;
  }
  return bytes;
}

class MapAhead : public StoreAndLoad {
 protected:
  DaemonProcess::Options options() const override {
    return {
        .dram = "8MiB", .nvme = "256MiB", .more = {"--slab", "2MiB", "--store-timeout", "100ms"}};
  }
  // One prefix of the namespace is in DRAM, and this process maps nothing of it.
  void SetUp() override {
    StoreAndLoad::SetUp();
    if (IsSkipped()) return;
    Client client = open();
    store(client, tokens(0), 0);
  }
  // Nearly all of DRAM is the namespace's, and may leave it.
  void fill() {
    Client client = open();
    for (int seed = 0; seed < 4; ++seed) {
      store(client, tokens(seed), seed);
      client.acquire(Prompt{tokens(seed)}).first->flush(60000);
    }
  }
  static std::vector<std::int32_t> tokens(int seed) { return some_tokens(16 * 60, seed); }

  // Another namespace's store, which takes a slab of this one.
  class Other {
   public:
    explicit Other(const std::string& mount) : client_(made(mount), "other") {}
    kvfs_status store() {
      return status_of([&] { StoreAndLoad::store(client_, some_tokens(16 * 30, 9), 9); });
    }

   private:
    static const std::string& made(const std::string& mount) {
      Client::create_namespace(mount, "other", c_geometry({kShape}, "other"));
      return mount;
    }
    Client client_;
  };
};

TEST_F(MapAhead, WhatIsInDramIsMappedBeforeALoadAndLoadsRight) {
  Client client = open();
  ASSERT_EQ(mapped_bytes(), 0U);
  const std::vector<float> engine(1);
  const std::uint64_t bytes = client.map_slabs(engine.data());
  EXPECT_GT(bytes, 0U);
  EXPECT_EQ(mapped_bytes(), bytes);
  EXPECT_EQ(client.map_slabs(), bytes);
  EXPECT_EQ(kvfs_map_slabs(client.get(), nullptr, 0, nullptr), KVFS_OK);
  EXPECT_TRUE(loads(client, tokens(0), 0));
  EXPECT_EQ(mapped_bytes(), bytes);  // the same mappings
}

TEST_F(MapAhead, WhatIsProvidedIsMappedBeforeAStore) {
  Client client = open();
  EXPECT_EQ(client.map_slabs(nullptr, KVFS_PROVIDE_HALF), 4U << 20);  // of 8 MiB, 2 in use
  EXPECT_EQ(client.map_slabs(nullptr, KVFS_PROVIDE_HALF), 4U << 20);
  const std::uint64_t all = client.map_slabs(nullptr, 8U << 20);
  EXPECT_EQ(all, 8U << 20);
  EXPECT_EQ(mapped_bytes(), all);
  for (int seed = 1; seed < 4; ++seed) store(client, tokens(seed), seed);
  EXPECT_EQ(mapped_bytes(), all);
  for (int seed = 0; seed < 4; ++seed) EXPECT_TRUE(loads(client, tokens(seed), seed));
}

TEST_F(MapAhead, WhatIsProvidedGoesToWhoNeedsIt) {
  Client client = open();
  ASSERT_EQ(client.map_slabs(nullptr, 8U << 20), 8U << 20);
  Other other(mount());
  EXPECT_TRUE(eventually([&] { return other.store() == KVFS_OK; })) << kvfs_last_error();
  EXPECT_LT(mapped_bytes(), 8U << 20);
  EXPECT_TRUE(loads(client, tokens(0), 0));
}

TEST_F(MapAhead, LoadsAndMappingGoOnSideBySide) {
  fill();
  Client client = open();
  std::uint64_t bytes = 0;
  std::thread ahead([&] { bytes = client.map_slabs(); });
  for (int seed = 0; seed < 4; ++seed) EXPECT_TRUE(loads(client, tokens(seed), seed));
  ahead.join();
  EXPECT_EQ(mapped_bytes(), bytes);  // each slab once
}

TEST_F(MapAhead, AReadOnlyClientMapsReadOnly) {
  Client client = open({.read_only = true});
  const std::uint64_t bytes = client.map_slabs(nullptr, 8U << 20);
  EXPECT_EQ(bytes, 2U << 20);  // it is provided with nothing
  EXPECT_EQ(mapped_bytes(), bytes);
  EXPECT_THAT(mappings(), Each(HasSubstr(" r--s ")));
  EXPECT_TRUE(loads(client, tokens(0), 0));
}

TEST_F(MapAhead, TheFallbackMapsNothing) {
  Client client = open({.force_fallback = true});
  EXPECT_EQ(client.map_slabs(), 0U);
  EXPECT_EQ(mapped_bytes(), 0U);
  EXPECT_TRUE(loads(client, tokens(0), 0));
}

TEST_F(MapAhead, SlabsThatAreWantedElsewhereGo) {
  fill();
  Client client = open();
  const std::uint64_t bytes = client.map_slabs();
  ASSERT_EQ(mapped_bytes(), bytes);
  Other other(mount());
  EXPECT_TRUE(eventually([&] { return other.store() == KVFS_OK; })) << kvfs_last_error();
  EXPECT_TRUE(loads(client, tokens(0), 0));
}

// It retires after it was listed, and those who look for such slabs do before it is mapped.
TEST_F(MapAhead, ASlabThatRetiresMeanwhileIsLookedForAgain) {
  fill();
  const client::Descriptor directory(
      ::open((mount() + "/ns").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  client::Devices devices(1);
  client::SlabMap slabs(directory.get(), false, devices);
  constexpr std::uint32_t kRetired = 5;
  ASSERT_TRUE(slabs.drop_retired(kRetired));
  const Result<std::uint64_t> bytes = slabs.map_ahead();
  ASSERT_TRUE(bytes) << bytes.error().message;
  Other other(mount());
  const auto retires = [&] {
    const Result<std::vector<SlabInfo>> listed = client::ioctl_slabs(directory.get());
    return listed && std::ranges::any_of(*listed, &SlabInfo::retiring);
  };
  ASSERT_TRUE(eventually([&] { return other.store() == KVFS_NO_SPACE && retires(); }));
  ASSERT_EQ(mapped_bytes(), *bytes);
  ASSERT_TRUE(slabs.drop_retired(kRetired));
  EXPECT_LT(mapped_bytes(), *bytes);
  EXPECT_TRUE(eventually([&] { return other.store() == KVFS_OK; })) << kvfs_last_error();
}

TEST_F(MapAhead, WhatTheNextDaemonHasIsMappedToo) {
  Client client = open();
  daemon().kill();
  EXPECT_EQ(status_of([&] { client.map_slabs(nullptr, 6U << 20); }), KVFS_UNAVAILABLE);
  ASSERT_EQ(mapped_bytes(), 0U);
  daemon().start();
  EXPECT_TRUE(eventually([] { return mapped_bytes() == 6U << 20; })) << mapped_bytes();
  EXPECT_TRUE(loads(client, tokens(0), 0));
}

TEST(MapAheadOfNothing, IsRefused) {
  std::uint64_t bytes = 1;
  EXPECT_EQ(kvfs_map_slabs(nullptr, nullptr, 0, &bytes), KVFS_INVALID);
  EXPECT_THAT(kvfs_last_error(), HasSubstr("client is NULL"));
  EXPECT_EQ(bytes, 1U);
}

}  // namespace
}  // namespace kvfs::test
