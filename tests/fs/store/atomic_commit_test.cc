// A commit beside matches of other threads: found whole or not at all.
#include <atomic>
#include <thread>

#include "tests/fs/store/index_client.h"
#include "tests/fs/store/store_fixture.h"

namespace kvfs::store {
namespace {

constexpr std::uint32_t kBlocks = 120;

// Blocks of 4 KiB: 512 to a slab.
Geometry tiny_blocks() {
  return {.model = "tiny",
          .dtype = DType::kF32,
          .block_tokens = 8,
          .groups = {{.layers = 1, .kv_heads = 1, .head_dim = 64}}};
}

// A prompt of its own each round, all of them with `shared` blocks in common.
std::vector<Token> round_prompt(std::uint32_t round, std::uint32_t shared) {
  std::vector<Token> tokens = prompt(1, shared);
  const std::vector<Token> own = prompt(1000 + round, kBlocks - shared);
  tokens.insert(tokens.end(), own.begin(), own.end());
  return tokens;
}

class AtomicCommit : public StoreTest {
 protected:
  static IndexClient client_of(const Namespace& space) {
    return {space.geometry(), [&space](const auto& map) {
              const Namespace::IndexFile file = space.index_file();
              map({.fd = file.fd, .bytes = file.bytes});
            }};
  }

  // Commits a prompt a round while two threads match the prompt of the round.
  void commit_beside_matches(Namespace& space, std::uint32_t shared) {
    // Its prompt is being committed; kNone: none is, and earlier ones may be evicted.
    constexpr std::uint32_t kNone = 0xffffffffU;
    std::atomic<std::uint32_t> under_way = kNone;
    std::atomic<std::uint64_t> matches = 0;
    std::atomic<bool> stop = false;
    std::vector<std::thread> readers;
    for (int i = 0; i < 2; ++i) {
      readers.emplace_back([&] {
        IndexClient client = client_of(space);
        while (!stop.load(std::memory_order_relaxed)) {
          const std::uint32_t round = under_way.load(std::memory_order_acquire);
          if (round == kNone) continue;
          const auto tokens = round_prompt(round, shared);
          const auto keys = keys_of(space.geometry(), tokens);
          while (under_way.load(std::memory_order_acquire) == round) {
            const Match match = client.view().match(keys, tokens);
            if (under_way.load(std::memory_order_acquire) != round) break;
            ASSERT_TRUE(match.blocks == shared || match.blocks == kBlocks) << match.blocks;
            matches.fetch_add(1, std::memory_order_relaxed);
          }
        }
      });
    }
    for (std::uint32_t round = 0; round < 200 || (matches < 2000 && round < 5000); ++round) {
      const auto tokens = round_prompt(round, shared);
      auto reservation = space.reserve();
      std::vector<Extent> extents(kBlocks);
      ASSERT_OK(reservation->reserve({}, tokens, {}, extents, {}));
      const std::uint64_t before = matches;
      under_way.store(round, std::memory_order_release);
      // Begins when a reader is at it.
      for (int i = 0; i < 1000 && matches == before; ++i) std::this_thread::yield();
      const auto committed = reservation->commit(kBlocks);
      under_way.store(kNone, std::memory_order_release);
      ASSERT_OK(committed);
      EXPECT_EQ(committed->committed, kBlocks - shared);
    }
    stop = true;
    for (std::thread& reader : readers) reader.join();
    EXPECT_GT(matches.load(), 0U);
  }
};

TEST_F(AtomicCommit, FromTheFirstBlockOn) {
  open(options(2 * kSlab));
  commit_beside_matches(*space("ns", tiny_blocks()), 0);
}

TEST_F(AtomicCommit, BehindAPrefixThatIsThere) {
  open(options(2 * kSlab));
  const auto ns = space("ns", tiny_blocks());
  const auto beginning = prompt(1, 7);
  ASSERT_OK(put(*ns, beginning));
  auto held = ns->lease(keys_of(ns->geometry(), beginning).back(), true);
  ASSERT_OK(held);
  commit_beside_matches(*ns, 7);
}

}  // namespace
}  // namespace kvfs::store
