// Clients that match while the catalog inserts, removes and grows. Under TSan this also shows that
// reader and writer share nothing but atomics.
#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <random>
#include <thread>

#include "tests/fs/store/catalog_fixture.h"
#include "tests/fs/store/index_client.h"

namespace kvfs::store {
namespace {

constexpr std::uint32_t kChains = 12;
constexpr std::uint32_t kLength = 20;

std::vector<std::uint32_t> numbers_of(std::uint32_t chain) {
  std::vector<std::uint32_t> numbers(kLength);
  for (std::uint32_t i = 0; i < kLength; ++i) numbers[i] = chain * 100 + i;
  return numbers;
}

class CatalogReaders : public testing::Test {
 protected:
  // Extends or shortens one chain by a few blocks.
  void write_some(std::mt19937& random, std::vector<Placement>& freed) {
    const auto chain = static_cast<std::uint32_t>(random() % kChains);
    const std::vector<std::uint32_t> numbers = numbers_of(chain);
    std::vector<BlockId>& ids = chains[chain];
    const auto target = static_cast<std::size_t>(random() % (kLength + 1));
    while (ids.size() > target) {
      const std::lock_guard lock(mutex);
      // Unpublished first: below `sure` nothing is ever removed.
      if (ids.size() <= sure[chain]) return;
      catalog->remove(ids.back(), freed);
      catalog->recycle(ids.back());
      ids.pop_back();
    }
    while (ids.size() < target) {
      const std::lock_guard lock(mutex);
      const Result<BlockId> id = test::insert(
          *catalog, geometry,
          {.parent = ids.empty() ? kNoBlock : ids.back(), .number = numbers[ids.size()]});
      ASSERT_TRUE(id) << id.error().message;
      ids.push_back(*id);
    }
  }

  IndexClient client() {
    return {geometry, [this](const auto& map) {
              const std::lock_guard lock(mutex);
              map({.fd = catalog->index_fd(), .bytes = catalog->index_bytes()});
            }};
  }

  kvfs::test::TempDirectory directory{"/dev/shm"};
  Geometry geometry = test::one_group();
  std::unique_ptr<Catalog> catalog = test::open_catalog(directory.path(), geometry);
  std::mutex mutex;  // the namespace's
  std::vector<std::vector<BlockId>> chains{kChains};
  std::vector<std::size_t> sure = std::vector<std::size_t>(kChains, 0);
};

TEST_F(CatalogReaders, SeeAlwaysATruePrefix) {
  std::mt19937 random(1);
  std::vector<Placement> freed;
  // Every second chain keeps its first blocks for good: a reader may never miss those.
  for (std::uint32_t chain = 0; chain < kChains; chain += 2) {
    for (const BlockId id : test::insert_chain(*catalog, geometry, 8, chain * 100))
      chains[chain].push_back(id);
    sure[chain] = 8;
  }
  std::atomic<bool> stop = false;
  std::atomic<std::uint64_t> matches = 0;
  std::atomic<std::uint64_t> hits = 0;
  std::vector<std::thread> readers;
  for (unsigned seed = 0; seed < 3; ++seed) {
    readers.emplace_back([&, seed] {
      std::mt19937 dice(seed);
      IndexClient client = this->client();
      while (!stop.load(std::memory_order_relaxed)) {
        const auto chain = static_cast<std::uint32_t>(dice() % kChains);
        const Match match = test::match(client.view(), geometry, numbers_of(chain));
        ASSERT_LE(match.blocks, kLength);
        ASSERT_GE(match.blocks, sure[chain]);
        // What was matched is named by the right key: the tokens were compared on the way.
        std::vector<Token> tokens;
        std::vector<Key> keys(kLength);
        for (const std::uint32_t number : numbers_of(chain)) {
          for (const Token token : test::block_tokens(number)) tokens.push_back(token);
        }
        chain_keys(geometry.seed(), tokens, geometry.block_tokens, {}, keys);
        ASSERT_EQ(match.key, match.blocks == 0 ? Key{} : keys[match.blocks - 1]);
        matches.fetch_add(1, std::memory_order_relaxed);
        hits.fetch_add(match.blocks > sure[chain] ? 1 : 0, std::memory_order_relaxed);
      }
    });
  }
  // Until the readers have had their share, however slow the machine is.
  for (int i = 0; i < 3000 || (matches < 3000 && i < 3000000); ++i) write_some(random, freed);
  stop = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_GT(catalog->generation(), 1U);
  EXPECT_GE(matches.load(), 3000U);
  EXPECT_GT(hits.load(), 0U);
}

// Short chains behind a common beginning, published one after the other as fast as can be while
// clients match the one whose turn it is: all of it or the beginning alone.
TEST_F(CatalogReaders, SeeAChainThatIsPublishedWholeOrNotAtAll) {
  constexpr std::uint32_t kBeginning = 5;
  constexpr std::uint32_t kMore = 3;  // so few that all come between two looks of a match
  constexpr std::uint32_t kRounds = 5000;
  catalog = test::open_catalog(directory.path(), geometry, 1U << 14);
  const std::vector<BlockId> beginning = test::insert_chain(*catalog, geometry, kBeginning);
  struct Round {
    std::vector<Token> tokens;
    std::vector<Key> keys;
    std::vector<BlockId> chain;
  };
  std::vector<Round> rounds(kRounds);
  for (std::uint32_t r = 0; r < kRounds; ++r) {
    for (std::uint32_t i = 0; i < kBeginning + kMore; ++i) {
      const std::uint32_t number = i < kBeginning ? i : 1000 + r * kMore + i;
      for (const Token token : test::block_tokens(number)) rounds[r].tokens.push_back(token);
      if (i < kBeginning) continue;
      std::vector<BlockId>& chain = rounds[r].chain;
      chain.push_back(*test::prepare(
          *catalog, geometry,
          {.parent = chain.empty() ? beginning.back() : chain.back(), .number = number}));
    }
    rounds[r].keys.resize(kBeginning + kMore);
    chain_keys(geometry.seed(), rounds[r].tokens, geometry.block_tokens, {}, rounds[r].keys);
  }

  std::atomic<std::uint32_t> published = 0;  // rounds that are over
  std::atomic<bool> failed = false;
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&] {
      IndexClient client = this->client();
      std::uint32_t over = 0;
      while ((over = published.load(std::memory_order_acquire)) < kRounds) {
        for (const std::uint32_t round : {over, over + 1, over - 1}) {
          if (round >= kRounds) continue;
          const Match match = client.view().match(rounds[round].keys, rounds[round].tokens);
          const bool whole = match.blocks == kBeginning + kMore;
          if (whole || (match.blocks == kBeginning && round >= over)) continue;
          failed = true;
          ADD_FAILURE() << match.blocks << " blocks of round " << round << ", over are " << over;
          return;
        }
      }
    });
  }
  for (std::uint32_t r = 0; r < kRounds && !failed; ++r) {
    catalog->publish(rounds[r].chain);
    published.store(r + 1, std::memory_order_release);
    // The readers' share, on a machine that has no processor left for them.
    if (r % 500 == 0) std::this_thread::yield();
  }
  published = kRounds;
  for (std::thread& reader : readers) reader.join();
}

}  // namespace
}  // namespace kvfs::store
