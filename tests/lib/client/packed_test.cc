// A packed namespace from end to end: what comes back, in every way, is what was stored, bit for
// bit, and takes three quarters of the bytes.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <kvfs/kvfs.hpp>

#include <cstring>
#include <filesystem>
#include <random>

#include "tests/lib/client/canonical_cache.h"
#include "tests/lib/client/encoded_namespace.h"
#include "tests/lib/client/engine_cache.h"

namespace kvfs::test {
namespace {

kvfs_geometry packed_geometry(std::uint32_t window = 0) {
  kvfs_geometry geometry = c_geometry(
      {{.layers = kLayers, .heads = kHeads, .dim = kDim, .block_tokens = kTokens}}, "packed");
  geometry.dtype = KVFS_BF16;
  geometry.encoding = "packed";
  if (window != 0) {
    geometry.group_count = 2;
    geometry.groups[1] = geometry.groups[0];
    geometry.groups[1].window = window;
  }
  return geometry;
}

// By hand: a head is 64 + 10 * 1472 + 426 bytes, rounded up to 15232; a block of four takes fifteen
// pages of 4096 instead of twenty.
constexpr std::uint64_t kSlot = 61440;

class Packed : public EncodedNamespace, public ::testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    Mounted::SetUp();
    if (IsSkipped()) return;
    Client::create_namespace(mount(), "ns", packed_geometry());
  }
  [[nodiscard]] Client open() const { return {mount(), "ns", {.force_fallback = GetParam()}}; }
};

TEST_P(Packed, LoadsBitForBitOutOfFewerBytes) {
  Client client = open();
  const auto tokens = some_tokens(std::size_t{kTokens} * 40, 1);
  const Values values = some_values(40, 1);
  const kvfs_commit_result result = store(client, tokens, values);
  EXPECT_EQ(result.committed, 40U);
  expect_loads(client, tokens, values);
  EXPECT_EQ(client.block_bytes(), kBlock * 2);
  EXPECT_EQ(stats()["tiers"]["dram"]["bytes"], 40 * kSlot);
  EXPECT_EQ(stats()["encoding"], "packed");
  EXPECT_EQ(stats()["unpackable_blocks"], 0);
  EXPECT_DOUBLE_EQ(stats()["ratio"].get<double>(), 81920.0 / kSlot);
  struct stat facts {};
  ASSERT_EQ(::stat(file_of(result.key).c_str(), &facts), 0);
  EXPECT_GE(static_cast<std::uint64_t>(facts.st_size), 40 * kBlock * 2);     // what ls shows
  EXPECT_EQ(static_cast<std::uint64_t>(facts.st_blocks) * 512, 40 * kSlot);  // what du counts
}

TEST_P(Packed, EveryKindOfNumber) {
  Client client = open();
  const auto tokens = some_tokens(std::size_t{kTokens} * 12, 2);
  Values values(12 * kBlock);
  const std::vector<std::uint16_t> kinds{0x0000, 0x8000, 0x0001, 0x807f, 0x7f80, 0xff80,
                                         0x7fc0, 0x7f81, 0xffff, 0x3f80, 0x0080, 0xdead};
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = kinds[i / kBlock];
  store(client, tokens, values);
  expect_loads(client, tokens, values);
}

TEST_P(Packed, AFileShowsTheNumbers) {
  Client client = open();
  const auto tokens = some_tokens(std::size_t{kTokens} * 9, 3);
  const Values values = some_values(9, 3);
  const std::string path = file_of(store(client, tokens, values).key);
  const std::string content = read_file(path);
  EXPECT_EQ(
      std::memcmp(content.data() + offset_of(content, "kv"), values.data(), values.size() * 2), 0);
  EXPECT_EQ(
      std::memcmp(content.data() + offset_of(content, "tokens"), tokens.data(), tokens.size() * 4),
      0);
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_GE(file, 0);
  void* const mapped = ::mmap(nullptr, content.size(), PROT_READ, MAP_PRIVATE, file, 0);
  ASSERT_NE(mapped, MAP_FAILED);
  EXPECT_EQ(std::memcmp(mapped, content.data(), content.size()), 0);
  ::munmap(mapped, content.size());
  ::close(file);
  expect_reads_anywhere(path, content);
}

TEST_P(Packed, AFileCopiedOutComesBackIn) {
  Client client = open();
  const auto tokens = some_tokens(std::size_t{kTokens} * 6, 5);
  const Values values = some_values(6, 5);
  const std::string path = file_of(store(client, tokens, values).key);
  std::string content = read_file(path);
  std::filesystem::remove(path);
  ASSERT_EQ(client.match({tokens}).blocks, 0U);
  std::string damaged = content;
  damaged[offset_of(content, "kv") + 100000] ^= 1;
  // Under a name of its own: the kernel forgets a refused file a moment after its close.
  EXPECT_EQ(import(mount() + "/ns/damaged.safetensors", damaged), EINVAL);
  EXPECT_EQ(client.match({tokens}).blocks, 0U);
  ASSERT_EQ(import(path, content), 0);
  expect_loads(client, tokens, values);
  EXPECT_TRUE(read_file(path) == content);
}

TEST_P(Packed, RanksStoreAndLoadTheirHeads) {
  Client client = open();
  const auto tokens = some_tokens(std::size_t{kTokens} * 10, 6);
  const Values values = some_values(10, 6);
  Reservation reservation = client.reserve({tokens});
  Cache first(10, 0, 1);
  first.fill(values);
  reservation.store({0, 10}, first.pages());
  Client other = open();
  Reservation joined = other.join(reservation.id(), reservation.range());
  Cache second(10, 1, 3);
  second.fill(values);
  joined.store({0, 10}, second.pages());
  EXPECT_EQ(reservation.commit().committed, 10U);
  expect_loads(client, tokens, values);
  auto [lease, match] = client.acquire(Prompt{tokens});
  for (std::uint32_t head = 0; head < kHeads; head += 2) {
    Cache rank(10, head, 2);
    lease->load({0, 10}, rank.pages());
    EXPECT_TRUE(rank.holds(values));
  }
}

TEST_P(Packed, WholeBlocksAreUnpackedOnes) {
  Client client = open();
  const auto tokens = some_tokens(std::size_t{kTokens} * 7, 7);
  Values values = some_values(7, 7);
  const auto pointers = [](Values& blocks) {
    std::vector<void*> made;
    for (std::size_t at = 0; at < blocks.size(); at += kBlock) made.push_back(&blocks[at]);
    return made;
  };
  Reservation reservation = client.reserve({tokens});
  reservation.store_blocks(0, 0, pointers(values));
  EXPECT_EQ(reservation.commit().committed, 7U);
  expect_loads(client, tokens, values);
  Values loaded(values.size());
  auto [lease, match] = client.acquire(Prompt{tokens});
  lease->load_blocks(0, 0, pointers(loaded));
  EXPECT_TRUE(loaded == values);
}

// A block whose exponents are all over the place has no room: the prefix ends before it.
TEST_P(Packed, WhatDoesNotPackIsNotStored) {
  Client client = open();
  const auto tokens = some_tokens(std::size_t{kTokens} * 8, 8);
  Values values = some_values(8, 8);
  std::mt19937 random(8);
  for (std::size_t i = 0; i < kPlane; ++i) {  // a plane of head 2 in block 5
    values[5 * kBlock + std::size_t{2} * kLayers * 2 * kPlane + i] =
        static_cast<std::uint16_t>(random());
  }
  Cache cache(8);
  cache.fill(values);
  Reservation reservation = client.reserve({tokens});
  reservation.store({0, 8}, cache.pages());
  EXPECT_EQ(reservation.commit(3).committed, 3U);
  const kvfs_commit_result result = reservation.commit();
  EXPECT_EQ(result.committed, 2U);
  EXPECT_EQ(result.present, 0U);
  const kvfs_match_result match = client.match({tokens});
  EXPECT_EQ(match.blocks, 5U);
  EXPECT_EQ(match.key.lo, result.key.lo);
  EXPECT_EQ(stats()["unpackable_blocks"], 3);
  EXPECT_EQ(reservation.commit().committed, 0U);  // no better the second time
  EXPECT_EQ(stats()["unpackable_blocks"], 3);
  Lease lease = client.acquire(match.key);
  Cache loaded(5);
  lease.load({0, 5}, loaded.pages());
  EXPECT_TRUE(loaded.holds(values));
}

TEST_P(Packed, NothingOfAPromptPacks) {
  Client client = open();
  const auto tokens = some_tokens(std::size_t{kTokens} * 2, 9);
  std::mt19937 random(9);
  Values values(2 * kBlock);
  for (std::uint16_t& value : values) value = static_cast<std::uint16_t>(random());
  const kvfs_commit_result result = store(client, tokens, values);
  EXPECT_EQ(result.committed, 0U);
  EXPECT_EQ(result.present, 0U);
  EXPECT_EQ(result.key.lo, 0U);
  EXPECT_EQ(client.match({tokens}).blocks, 0U);
}

TEST_P(Packed, GroupsOfWhichOneHasAWindow) {
  Client::create_namespace(mount(), "two", packed_geometry(40));
  Client client(mount(), "two", {.force_fallback = GetParam()});
  const auto tokens = some_tokens(std::size_t{kTokens} * 10, 10);
  const Values full = some_values(10, 10);
  const Values window = some_values(10, 11);
  Cache full_cache(10);
  Cache window_cache(10);
  full_cache.fill(full);
  window_cache.fill(window);
  Reservation reservation = client.reserve({tokens});
  reservation.store({.first = 0, .count = 10, .group = 0}, full_cache.pages());
  reservation.store({.first = 0, .count = 10, .group = 1}, window_cache.pages());
  EXPECT_EQ(reservation.commit().committed, 10U);
  auto [lease, match] = client.acquire(Prompt{tokens});
  ASSERT_EQ(match.blocks, 10U);
  Cache loaded(10);
  lease->load({.first = 0, .count = 10, .group = 0}, loaded.pages());
  EXPECT_TRUE(loaded.holds(full));
  Values last(window.size());
  std::vector<void*> pointers;
  for (std::size_t block = 7; block < 10; ++block) pointers.push_back(&last[block * kBlock]);
  lease->load_blocks(1, 7, pointers);
  EXPECT_TRUE(std::equal(last.begin() + 7 * kBlock, last.end(), window.begin() + 7 * kBlock));
}

TEST_P(Packed, TheDiskAndARestartCarryIt) {
  const auto tokens = some_tokens(std::size_t{kTokens} * 60, 12);
  const Values values = some_values(60, 12);
  std::string path;
  std::string content;
  {
    Client client = open();
    const kvfs_commit_result result = store(client, tokens, values);
    path = file_of(result.key);
    client.acquire(result.key).flush(60000);
    content = read_file(path);
    EXPECT_EQ(stats()["tiers"]["nvme"]["bytes"], 60 * kSlot);
  }
  daemon().kill();
  daemon().lose_memory();
  daemon().start();
  EXPECT_TRUE(read_file(path) == content);  // by promotion
  Client client = open();
  expect_loads(client, tokens, values);
  EXPECT_EQ(stats()["evictions"]["corrupt"], 0);
}

INSTANTIATE_TEST_SUITE_P(Ways, Packed, ::testing::Values(false, true),
                         [](const auto& way) { return way.param ? "fallback" : "mapped"; });

}  // namespace
}  // namespace kvfs::test
