// Clients that match while the catalog inserts, removes and grows. Under TSan this also shows that
// reader and writer share nothing but atomics.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <random>
#include <thread>

#include "tests/fs/store/catalog_fixture.h"

namespace kvfs::store {
namespace {

constexpr std::uint32_t kChains = 12;
constexpr std::uint32_t kLength = 20;

std::vector<std::uint32_t> numbers_of(std::uint32_t chain) {
  std::vector<std::uint32_t> numbers(kLength);
  for (std::uint32_t i = 0; i < kLength; ++i) numbers[i] = chain * 100 + i;
  return numbers;
}

// A client's own mapping of the index, opened again whenever it is superseded.
class Client {
 public:
  Client(const Geometry& geometry, std::mutex& catalog_mutex, const Catalog& catalog)
      : geometry_(geometry), mutex_(catalog_mutex), catalog_(catalog) {
    reopen();
  }
  ~Client() { close(); }
  const IndexView& view() {
    if (view_.superseded()) reopen();
    return view_;
  }

 private:
  void reopen() {
    close();
    const std::lock_guard lock(mutex_);  // what an open through the mount does
    bytes_ = catalog_.index_bytes();
    memory_ = ::mmap(nullptr, bytes_, PROT_READ, MAP_SHARED, catalog_.index_fd(), 0);
    ASSERT_NE(memory_, MAP_FAILED);
    Result<IndexView> view =
        IndexView::attach({static_cast<const std::byte*>(memory_), bytes_}, geometry_);
    ASSERT_TRUE(view) << view.error().message;
    view_ = *view;
  }
  void close() {
    if (memory_ != nullptr) ::munmap(memory_, bytes_);
  }

  const Geometry& geometry_;
  std::mutex& mutex_;
  const Catalog& catalog_;
  void* memory_ = nullptr;
  std::size_t bytes_ = 0;
  IndexView view_;
};

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
      Client client(geometry, mutex, *catalog);
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

}  // namespace
}  // namespace kvfs::store
