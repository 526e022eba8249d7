// Storing and loading, mapped and through read(2), in one process and in several.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <kvfs/kvfs.hpp>

#include <thread>

#include "tests/lib/client/engine_cache.h"
#include "tests/support/child.h"
#include "tests/support/mounted.h"
#include "tests/support/status_of.h"

namespace kvfs::test {
namespace {

constexpr ModelShape kShape;

// Stores all full blocks of the prompt with the numbers of `seed`.
kvfs_commit_result store(Client& client, const std::vector<std::int32_t>& tokens, int seed) {
  Reservation reservation = client.reserve({tokens});
  const kvfs_range range = reservation.range();
  EngineCache cache(kShape, tokens.size());
  cache.fill(seed);
  reservation.store({range.first_block, range.count}, cache.pages());
  return reservation.commit();
}

// Every test runs both ways.
class RoundTrip : public Mounted, public ::testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    Mounted::SetUp();
    if (IsSkipped()) return;
    Client::create_namespace(mount(), "ns", c_geometry({kShape}));
  }
  Client open() const { return Client(mount(), "ns", {.force_fallback = GetParam()}); }

  // The same for a step of another process.
  [[nodiscard]] static std::string way() { return GetParam() ? "fallback" : "mapped"; }
};

TEST_P(RoundTrip, ClientSaysHowItReachesBlocks) {
  EXPECT_EQ(open().stats().mapped, GetParam() ? 0U : 1U);
}

TEST_P(RoundTrip, StoredBlocksMatchAndLoadBitExact) {
  Client client = open();
  const auto tokens = some_tokens(16 * 20 + 5, 1);
  EXPECT_EQ(client.match({tokens}).blocks, 0U);
  const kvfs_commit_result committed = store(client, tokens, 1);
  EXPECT_EQ(committed.committed, 20U);
  EXPECT_EQ(committed.present, 0U);

  const kvfs_match_result match = client.match({tokens});
  EXPECT_EQ(match.blocks, 20U);
  EXPECT_EQ(match.tokens, 320U);
  EXPECT_EQ(match.key.lo, committed.key.lo);

  Lease lease = client.acquire(match.key);
  EXPECT_EQ(lease.blocks(), 20U);
  EngineCache loaded(kShape, tokens.size());
  lease.load({0, 20}, loaded.pages());
  EXPECT_TRUE(loaded.holds(1, 0, 320));
  EXPECT_TRUE(loaded.untouched(320, 325));
  EXPECT_EQ(client.stats().loaded_bytes, 20 * client.block_bytes());
}

TEST_P(RoundTrip, LongPromptsMatchAsFarAsTheyAreCached) {
  // Around the ends of the pieces in which a client hashes, and far from the prompt's end.
  Client client = open();
  auto tokens = some_tokens(16 * 400, 1);
  for (const std::uint32_t blocks : {1U, 63U, 64U, 65U, 127U, 128U, 129U, 200U}) {
    store(client, {tokens.begin(), tokens.begin() + 16 * blocks}, 1);
    EXPECT_EQ(client.match({tokens}).blocks, blocks);
    tokens[16 * blocks] = -1;  // the first token that no stored one vouches for
    kvfs_match_result match{};
    const kvfs_prompt prompt{tokens.data(), tokens.size(), nullptr, 0};
    EXPECT_EQ(kvfs_match(client.get(), &prompt, &match), KVFS_INVALID);
    EXPECT_THAT(kvfs_last_error(),
                ::testing::HasSubstr("tokens[" + std::to_string(16 * blocks) + "] is -1"));
    tokens = some_tokens(16 * 400, 1);
  }
}

TEST_P(RoundTrip, PartOfAPrefixLoadsWithoutTheRest) {
  Client client = open();
  const auto tokens = some_tokens(16 * 12, 2);
  store(client, tokens, 2);
  auto [lease, match] = client.acquire(Prompt{tokens});
  ASSERT_TRUE(lease);
  EngineCache loaded(kShape, tokens.size());
  lease->load({5, 3}, loaded.pages());
  EXPECT_TRUE(loaded.untouched(0, 80));
  EXPECT_TRUE(loaded.holds(2, 80, 128));
  EXPECT_TRUE(loaded.untouched(128, 192));
}

TEST_P(RoundTrip, PagedSourceAndDestination) {
  Client client = open();
  const auto tokens = some_tokens(16 * 6, 3);
  store(client, tokens, 3);
  // Pages of 8 tokens in the order NHD, K and V apart, in shuffled places.
  constexpr std::uint32_t kPage = 8;
  const std::vector<std::int32_t> table{7, 3, 11, 0, 5, 9, 1, 10, 2, 8, 4, 6};
  const std::size_t row = kShape.heads * kShape.dim;
  std::vector<std::vector<float>> planes(kShape.layers * 2,
                                         std::vector<float>(12 * kPage * row, -1.0F));
  std::vector<void*> pointers;
  for (auto& plane : planes) pointers.push_back(plane.data());
  kvfs_pages pages{};
  pages.size = sizeof(pages);
  pages.layer_count = kShape.layers * 2;
  pages.layers = pointers.data();
  pages.head_stride = kShape.dim * sizeof(float);
  pages.token_stride = static_cast<std::int64_t>(row * sizeof(float));
  pages.page_stride = pages.token_stride * kPage;
  pages.page_tokens = kPage;
  pages.page_table = table.data();
  pages.page_count = static_cast<std::uint32_t>(table.size());

  Lease lease = client.acquire(client.match({tokens}).key);
  lease.load({0, 6}, pages);
  for (std::size_t t = 0; t < 96; ++t) {
    const std::size_t at = (static_cast<std::size_t>(table[t / kPage]) * kPage + t % kPage) * row;
    for (std::uint32_t l = 0; l < kShape.layers; ++l) {
      for (std::uint32_t h = 0; h < kShape.heads; ++h) {
        for (std::uint32_t d = 0; d < kShape.dim; ++d) {
          ASSERT_EQ(planes[l * 2][at + h * kShape.dim + d], EngineCache::value(3, l, 0, h, t, d));
          ASSERT_EQ(planes[l * 2 + 1][at + h * kShape.dim + d],
                    EngineCache::value(3, l, 1, h, t, d));
        }
      }
    }
  }
}

TEST_P(RoundTrip, ALongerPromptStoresOnlyWhatIsNew) {
  Client client = open();
  store(client, some_tokens(16 * 8, 0), 0);
  const auto longer = some_tokens(16 * 12, 5, 16 * 8);
  Reservation reservation = client.reserve({longer});
  EXPECT_EQ(reservation.range().first_block, 8U);
  EXPECT_EQ(reservation.range().count, 4U);
  EngineCache cache(kShape, 64, 128);
  cache.fill(0);
  reservation.store({8, 4}, cache.pages());
  EXPECT_EQ(reservation.commit().committed, 4U);
  EXPECT_EQ(client.match({longer}).blocks, 12U);
  EXPECT_EQ(client.reserve({longer}).range().count, 0U);
  EXPECT_EQ(client.reserve({longer}).commit().key.lo, client.match({longer}).key.lo);
}

TEST_P(RoundTrip, LongPromptsTakeSeveralMessages) {
  Client client = open();
  const auto tokens = some_tokens(16 * 700, 6);
  EXPECT_EQ(store(client, tokens, 6).committed, 700U);
  EXPECT_EQ(client.match({tokens}).blocks, 700U);
  auto other = tokens;
  other[16 * 650] += 1;
  EXPECT_EQ(client.match({other}).blocks, 650U);
  auto [lease, match] = client.acquire(Prompt{tokens});
  EngineCache loaded(kShape, tokens.size());
  lease->load({0, 700}, loaded.pages());
  EXPECT_TRUE(loaded.holds(6, 0, tokens.size()));
}

TEST_P(RoundTrip, WithoutACommitNothingIsStored) {
  Client client = open();
  const auto tokens = some_tokens(64, 7);
  {
    Reservation reservation = client.reserve({tokens});
    EngineCache cache(kShape, 64);
    reservation.store({0, 4}, cache.pages());
  }
  EXPECT_EQ(client.match({tokens}).blocks, 0U);
}

TEST_P(RoundTrip, PartOfAReservationIsPublished) {
  Client client = open();
  const auto tokens = some_tokens(16 * 5, 8);
  Reservation reservation = client.reserve({tokens});
  EngineCache cache(kShape, tokens.size());
  cache.fill(8);
  reservation.store({0, 5}, cache.pages());
  EXPECT_EQ(reservation.commit(3).committed, 3U);
  EXPECT_EQ(client.match({tokens}).blocks, 3U);
  EXPECT_EQ(status_of([&] { reservation.store({2, 3}, cache.pages()); }), KVFS_INVALID);
  EXPECT_THAT(kvfs_last_error(), ::testing::HasSubstr("before 3 are committed"));
  reservation.store({3, 2}, cache.pages());
  EXPECT_EQ(reservation.commit().committed, 2U);
  EXPECT_EQ(client.match({tokens}).blocks, 5U);
}

TEST_P(RoundTrip, SecondWriterIsToldThatTheFirstOneWon) {
  Client client = open();
  const auto tokens = some_tokens(64, 9);
  Reservation late = client.reserve({tokens});
  store(client, tokens, 9);
  EngineCache cache(kShape, 64);
  cache.fill(9);
  late.store({0, 4}, cache.pages());
  const kvfs_commit_result result = late.commit();
  EXPECT_EQ(result.committed, 0U);
  EXPECT_EQ(result.present, 4U);
}

TEST_P(RoundTrip, ExtrasNameOtherPrefixes) {
  Client client = open();
  const auto tokens = some_tokens(64, 10);
  const std::string lora = "lora-7";
  const kvfs_extra extra{
      .block = 0, .bytes_size = static_cast<std::uint32_t>(lora.size()), .bytes = lora.data()};
  const Prompt with{tokens, std::span(&extra, 1)};
  Reservation reservation = client.reserve(with);
  EngineCache cache(kShape, 64);
  cache.fill(10);
  reservation.store({0, 4}, cache.pages());
  reservation.commit();
  EXPECT_EQ(client.match(with).blocks, 4U);
  EXPECT_EQ(client.match({tokens}).blocks, 0U);
  EXPECT_TRUE(client.acquire(with).first);
}

TEST_P(RoundTrip, TransfersCompleteByEventWaitAndPoll) {
  Client client = open();
  const auto tokens = some_tokens(16 * 40, 11);
  EngineCache cache(kShape, tokens.size());
  cache.fill(11);
  Reservation reservation = client.reserve({tokens});
  Transfer storing = reservation.begin_store({0, 40}, cache.pages());
  storing.wait();
  EXPECT_TRUE(storing.done());
  reservation.commit();

  auto [lease, match] = client.acquire(Prompt{tokens});
  EngineCache loaded(kShape, tokens.size());
  Transfer loading = lease->begin_load({0, 40}, loaded.pages());
  pollfd event{.fd = loading.event_fd(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(::poll(&event, 1, 10000), 1);
  EXPECT_TRUE(loading.done());
  loading.wait();
  EXPECT_TRUE(loaded.holds(11, 0, tokens.size()));
}

// Layer by layer, in steps that do not divide the layers: what is said to be there is there, and
// nothing is missing in the end.
TEST_P(RoundTrip, LayersArriveInOrder) {
  Client client = open();
  const auto tokens = some_tokens(16 * 40, 14);
  store(client, tokens, 14);
  auto [lease, match] = client.acquire(Prompt{tokens});
  for (const std::uint32_t step : {1U, 3U, 4U, 9U}) {
    EngineCache loaded(kShape, tokens.size());
    Transfer loading = lease->begin_load({0, 40}, loaded.pages(), {.layer_step = step});
    for (std::uint32_t layers = 1; layers <= kShape.layers; ++layers) {
      loading.wait_layers(layers);
      EXPECT_GE(loading.layers(), layers);
      EXPECT_TRUE(loaded.holds(14, 0, tokens.size(), layers)) << layers << " by " << step;
    }
    loading.wait();
    EXPECT_EQ(loading.layers(), kShape.layers);
    EXPECT_TRUE(loaded.holds(14, 0, tokens.size()));
    loading.wait_layers(kShape.layers + 1);  // more than there are: the end
  }
  // Part of the blocks and of the heads, in the calling thread.
  EngineCache rank(kShape, tokens.size(), 0, 2, 2);
  lease->load({8, 16}, rank.pages(), {.layer_step = 2});
  EXPECT_TRUE(rank.holds(14, 16 * 8, 16 * 24));
  EXPECT_TRUE(rank.untouched(0, 16 * 8));
  EXPECT_TRUE(rank.untouched(16 * 24, tokens.size()));
}

TEST_P(RoundTrip, ManyTransfersAtOnce) {
  Client client = open();
  const auto tokens = some_tokens(16 * 32, 12);
  store(client, tokens, 12);
  auto [lease, match] = client.acquire(Prompt{tokens});
  std::vector<EngineCache> caches;
  std::vector<Transfer> transfers;
  for (int i = 0; i < 12; ++i) caches.emplace_back(kShape, tokens.size());
  for (EngineCache& cache : caches) transfers.push_back(lease->begin_load({0, 32}, cache.pages()));
  for (Transfer& transfer : transfers) transfer.wait();
  for (EngineCache& cache : caches) EXPECT_TRUE(cache.holds(12, 0, tokens.size()));
}

// What the words of a step begin with: where, and how.
Client open_beside(const Words& words) {
  return Client(words[0], "ns", {.force_fallback = words[1] == "fallback"});
}

const ChildStep kStore("store", [](const Words& words) {
  Client client = open_beside(words);
  return store(client, some_tokens(16 * 30, 13), 13).committed == 30 ? 0 : 1;
});

const ChildStep kLoad("load", [](const Words& words) {
  Client client = open_beside(words);
  auto [lease, match] = client.acquire(Prompt{some_tokens(16 * 30, 13)});
  if (!lease) return 2;
  EngineCache loaded(kShape, 16 * 30);
  lease->load({0, 30}, loaded.pages());
  return loaded.holds(13, 0, 16 * 30) ? 0 : 3;
});

TEST_P(RoundTrip, OneProcessStoresAnotherLoads) {
  EXPECT_EQ(Child(kStore, {mount(), way()}).wait(), 0);
  EXPECT_EQ(Child(kLoad, {mount(), way()}).wait(), 0);
}

// A rank of its own process, with head 3; the reservation's id and blocks are the last words.
const ChildStep kSecondRank("second-rank", [](const Words& words) {
  Client rank = open_beside(words);
  const auto blocks = static_cast<std::uint32_t>(std::stoul(words[3]));
  Reservation joined = rank.join(std::stoull(words[2]), {.first_block = 0, .count = blocks});
  EngineCache second(kShape, std::size_t{16} * blocks, 0, 3, 1);
  second.fill(14);
  joined.store({0, blocks}, second.pages());
  try {
    joined.commit();
  } catch (const Error& error) {
    return error.status() == KVFS_INVALID ? 0 : 4;
  }
  return 5;
});

TEST_P(RoundTrip, TwoRanksWriteTheirHeadsAndOneCommits) {
  const auto tokens = some_tokens(16 * 10, 14);
  Client client = open();
  Reservation reservation = client.reserve({tokens});
  EngineCache first(kShape, tokens.size(), 0, 0, 3);
  first.fill(14);
  reservation.store({0, 10}, first.pages());
  ASSERT_EQ(reservation.range().first_block, 0U);
  Child rank(kSecondRank, {mount(), way(), std::to_string(reservation.id()),
                           std::to_string(reservation.range().count)});
  EXPECT_EQ(rank.wait(), 0);
  reservation.commit();
  // What was stored by two ranks loads by one, and by four.
  auto [lease, match] = client.acquire(Prompt{tokens});
  EngineCache whole(kShape, tokens.size());
  lease->load({0, 10}, whole.pages());
  EXPECT_TRUE(whole.holds(14, 0, tokens.size()));
  for (std::uint32_t head = 0; head < 4; ++head) {
    EngineCache share(kShape, tokens.size(), 0, head, 1);
    lease->load({0, 10}, share.pages());
    EXPECT_TRUE(share.holds(14, 0, tokens.size()));
  }
}

TEST_P(RoundTrip, ThreadsShareAClient) {
  Client client = open();
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < 5; ++i) {
        const int seed = 100 + thread * 10 + i;
        const auto tokens = some_tokens(16 * 9, seed, 32);
        Reservation reservation = client.reserve({tokens});
        const kvfs_range range = reservation.range();
        EngineCache cache(kShape, tokens.size());
        cache.fill(1);
        if (range.count > 0) reservation.store({range.first_block, range.count}, cache.pages());
        reservation.commit();
        auto [lease, match] = client.acquire(Prompt{tokens});
        EngineCache loaded(kShape, tokens.size());
        lease->load({0, match.blocks}, loaded.pages());
        if (match.blocks == 9 && loaded.holds(1, 0, tokens.size())) ++good;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 20);
}

INSTANTIATE_TEST_SUITE_P(Ways, RoundTrip, ::testing::Values(false, true),
                         [](const auto& way) { return way.param ? "fallback" : "mapped"; });

}  // namespace
}  // namespace kvfs::test
