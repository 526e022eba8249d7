// Quantized namespaces from end to end: what comes back, in every way, is what the definition of
// the encoding makes of the numbers, out of half the bytes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>
#include <kvfs/kvfs.hpp>

#include <cmath>
#include <filesystem>
#include <limits>

#include "tests/lib/client/canonical_cache.h"
#include "tests/lib/client/encoded_namespace.h"
#include "tests/lib/client/engine_cache.h"
#include "tests/lib/client/quantized_numbers.h"

namespace kvfs::test {
namespace {

constexpr std::size_t kPlanes = std::size_t{kLayers} * 2;
// Four heads in eleven pages of 4096 instead of twenty.
constexpr std::uint64_t kSlot = 45056;

struct Way {
  const char* encoding;
  bool fallback;
};

float value_of(std::uint16_t bits) {
  const std::uint32_t wide = std::uint32_t{bits} << 16;
  float value = 0;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

class Quantized : public EncodedNamespace, public ::testing::WithParamInterface<Way> {
 protected:
  void SetUp() override {
    Mounted::SetUp();
    if (IsSkipped()) return;
    Client::create_namespace(mount(), "ns", geometry());
  }
  [[nodiscard]] static kvfs_geometry geometry() {
    kvfs_geometry made = c_geometry(
        {{.layers = kLayers, .heads = kHeads, .dim = kDim, .block_tokens = kTokens}}, "quantized");
    made.dtype = KVFS_BF16;
    made.encoding = GetParam().encoding;
    return made;
  }
  [[nodiscard]] Client open() const {
    return {mount(), "ns", {.force_fallback = GetParam().fallback}};
  }
};

TEST_P(Quantized, LoadsTheNearestNumbersOutOfHalfTheBytes) {
  Client client = open();
  const auto tokens = some_tokens(std::size_t{kTokens} * 40, 1);
  const Values values = some_values(40, 1);
  const Expected expected = expected_of(values, GetParam().encoding);
  EXPECT_EQ(store(client, tokens, values).committed, 40U);
  expect_loads(client, tokens, expected.loaded);
  EXPECT_EQ(client.block_bytes(), kBlock * 2);
  double largest = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    largest =
        std::max<double>(largest, std::fabs(value_of(values[i]) - value_of(expected.loaded[i])));
  }
  EXPECT_EQ(stats()["encoding"], GetParam().encoding);
  EXPECT_EQ(stats()["tiers"]["dram"]["bytes"], 40 * kSlot);
  EXPECT_DOUBLE_EQ(stats()["ratio"].get<double>(), 81920.0 / kSlot);
  EXPECT_EQ(stats()["saturated_planes"], 0);
  EXPECT_FLOAT_EQ(stats()["largest_error"].get<float>(), expected.largest_error);
  // A loaded number is rounded once more, to the engine's own dtype.
  EXPECT_NEAR(stats()["largest_error"].get<double>(), largest, largest / 8);
}

TEST_P(Quantized, SaturationIsCounted) {
  Client client = open();
  const auto tokens = some_tokens(std::size_t{kTokens} * 4, 2);
  Values values = some_values(4, 2);
  values[kBlock + 17] = bf16(std::numeric_limits<float>::infinity());
  values[3 * kBlock + 5 * kPlane] = bf16(-std::numeric_limits<float>::infinity());
  values[3 * kBlock + 5 * kPlane + 1] = bf16(std::numeric_limits<float>::infinity());
  const Expected expected = expected_of(values, GetParam().encoding);
  store(client, tokens, values);
  expect_loads(client, tokens, expected.loaded);
  EXPECT_EQ(stats()["saturated_planes"], 2);
  EXPECT_LT(stats()["largest_error"].get<double>(), 5);
}

TEST_P(Quantized, AFileShowsNumbersAndScales) {
  Client client = open();
  const auto tokens = some_tokens(std::size_t{kTokens} * 9, 3);
  const Values values = some_values(9, 3);
  const Expected expected = expected_of(values, GetParam().encoding);
  const std::string path = file_of(store(client, tokens, values).key);
  const std::string content = read_file(path);
  const auto tensor = [&](const char* name) { return content.data() + offset_of(content, name); };
  constexpr std::size_t kNumbers = kPlanes * kPlane;
  for (std::size_t head = 0; head < std::size_t{9} * kHeads; ++head) {
    const std::byte* const stored = &expected.heads[head * kHeadBytes];
    ASSERT_EQ(std::memcmp(tensor("kv") + head * kNumbers, stored + kNumbersAt, kNumbers), 0);
    ASSERT_EQ(std::memcmp(tensor("scales") + head * kPlanes * 4, stored, kPlanes * 4), 0);
    ASSERT_EQ(std::memcmp(tensor("errors") + head * kPlanes * 4, stored + kErrorsAt, kPlanes * 4),
              0);
  }
  expect_reads_anywhere(path, content);
}

TEST_P(Quantized, AFileCopiedOutComesBackIn) {
  Client client = open();
  const auto tokens = some_tokens(std::size_t{kTokens} * 6, 5);
  const Values values = some_values(6, 5);
  const Expected expected = expected_of(values, GetParam().encoding);
  const std::string path = file_of(store(client, tokens, values).key);
  const std::string content = read_file(path);
  std::filesystem::remove(path);
  ASSERT_EQ(client.match({tokens}).blocks, 0U);
  for (const char* name : {"kv", "scales", "errors"}) {
    std::string damaged = content;
    damaged[offset_of(content, name) + 30] ^= 1;
    // Under a name of its own: the kernel forgets a refused file a moment after its close.
    EXPECT_EQ(import(mount() + "/ns/" + name + ".safetensors", damaged), EINVAL);
  }
  EXPECT_EQ(client.match({tokens}).blocks, 0U);
  ASSERT_EQ(import(path, content), 0);
  expect_loads(client, tokens, expected.loaded);
  EXPECT_TRUE(read_file(path) == content);
}

TEST_P(Quantized, RanksStoreAndLoadTheirHeads) {
  Client client = open();
  const auto tokens = some_tokens(std::size_t{kTokens} * 10, 6);
  const Values values = some_values(10, 6);
  const Expected expected = expected_of(values, GetParam().encoding);
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
  expect_loads(client, tokens, expected.loaded);
  auto [lease, match] = client.acquire(Prompt{tokens});
  for (std::uint32_t head = 0; head < kHeads; head += 2) {
    Cache rank(10, head, 2);
    lease->load({0, 10}, rank.pages());
    EXPECT_TRUE(rank.holds(expected.loaded));
  }
}

TEST_P(Quantized, WholeBlocksAreTheEnginesNumbers) {
  Client client = open();
  const auto tokens = some_tokens(std::size_t{kTokens} * 7, 7);
  Values values = some_values(7, 7);
  const Expected expected = expected_of(values, GetParam().encoding);
  const auto pointers = [](Values& blocks) {
    std::vector<void*> made;
    for (std::size_t at = 0; at < blocks.size(); at += kBlock) made.push_back(&blocks[at]);
    return made;
  };
  Reservation reservation = client.reserve({tokens});
  reservation.store_blocks(0, 0, pointers(values));
  EXPECT_EQ(reservation.commit().committed, 7U);
  expect_loads(client, tokens, expected.loaded);
  Values loaded(values.size());
  auto [lease, match] = client.acquire(Prompt{tokens});
  lease->load_blocks(0, 0, pointers(loaded));
  EXPECT_TRUE(loaded == expected.loaded);
}

TEST_P(Quantized, TheDiskAndARestartCarryIt) {
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
  expect_loads(client, tokens, expected_of(values, GetParam().encoding).loaded);
  EXPECT_EQ(stats()["evictions"]["corrupt"], 0);
}

INSTANTIATE_TEST_SUITE_P(Ways, Quantized,
                         ::testing::Values(Way{"fp8", false}, Way{"fp8", true}, Way{"int8", false},
                                           Way{"int8", true}),
                         [](const auto& way) {
                           return std::string(way.param.encoding) +
                                  (way.param.fallback ? "_fallback" : "_mapped");
                         });

}  // namespace
}  // namespace kvfs::test
