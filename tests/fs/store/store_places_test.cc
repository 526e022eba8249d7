// What a client that holds a lease reads in the index about where its blocks are, against what the
// store says, while others store, evict, promote and remove.
#include <atomic>
#include <random>
#include <thread>

#include "tests/fs/store/index_client.h"
#include "tests/fs/store/store_fixture.h"

namespace kvfs::store {
namespace {

// Blocks of 4 KiB: 512 to a slab.
Geometry tiny_geometry() {
  return {.model = "tiny",
          .dtype = DType::kF32,
          .block_tokens = 8,
          .groups = {{.layers = 1, .kv_heads = 1, .head_dim = 64}}};
}

IndexClient index_of(const std::shared_ptr<Namespace>& space) {
  return {space->geometry(), [space](const auto& map) {
            const Namespace::IndexFile file = space->index_file();
            map({.fd = file.fd, .bytes = file.bytes});
          }};
}

struct Told {
  bool told = false;  // all of them
  std::vector<Extent> at;
};
Told places(const IndexView& view, const Tip& tip) {
  std::vector<Places> places(tip.blocks);
  Told told{.told = view.places(tip, 0, 0, places)};
  for (const Places& place : places) {
    told.told = told.told && place.dram.slab != kSlabNotResident;
    told.at.push_back(place.dram);
  }
  return told;
}

std::vector<Extent> extents_of(Lease& lease) {
  std::vector<Extent> extents(lease.blocks());
  const Result<std::uint32_t> filled = lease.extents(0, 0, extents);
  EXPECT_TRUE(filled) << filled.error().message;
  extents.resize(filled.value_or(0));
  return extents;
}

bool same(const std::vector<Extent>& one, const std::vector<Extent>& other) {
  return std::ranges::equal(one, other, [](const Extent& a, const Extent& b) {
    return a.slab == b.slab && a.slot == b.slot;
  });
}

class StorePlaces : public StoreTest {
 protected:
  static Key tip_key(const std::shared_ptr<Namespace>& space, std::span<const Token> tokens) {
    return keys_of(space->geometry(), tokens).back();
  }
};

TEST_F(StorePlaces, AreThoseOfTheLeaseAtEveryMoment) {
  constexpr std::uint32_t kPrefixes = 120;
  constexpr std::uint32_t kLongest = 60;
  constexpr int kRounds = 500;
  // DRAM of 1,024 blocks, about half of what is stored; the index grows on the way.
  open(options(2 * kSlab, 64 << 20));
  const auto ns = space("ns", tiny_geometry());
  std::atomic<bool> over = false;
  std::atomic<int> told = 0;
  std::atomic<int> asked = 0;
  std::vector<std::thread> clients;
  for (std::uint32_t seed = 1; seed <= 2; ++seed) {
    clients.emplace_back([&, seed] {
      std::mt19937 dice(seed);
      const auto random = [&] { return static_cast<std::uint32_t>(dice()); };
      IndexClient index = index_of(ns);
      while (!over) {
        const auto tokens = prompt(random() % kPrefixes, 1 + random() % kLongest);
        const Key key = tip_key(ns, tokens);
        const Tip tip = index.view().tip(key);
        const auto lease = ns->lease(key, true);
        if (!lease || tip.blocks == 0) continue;
        ++asked;
        const Told first = places(index.view(), tip);
        if (!first.told) continue;
        ++told;
        EXPECT_TRUE(same(first.at, extents_of(**lease)));
        std::this_thread::yield();
        const Told later = places(index.view(), tip);
        EXPECT_TRUE(!later.told || same(later.at, first.at));
        EXPECT_TRUE(same(first.at, extents_of(**lease)));
      }
    });
  }
  std::mt19937 dice(0);
  const auto random = [&] { return static_cast<std::uint32_t>(dice()); };
  // Until the clients have had their share and the index has grown, however slow the machine is.
  const auto enough = [&] { return told >= 200 && ns->index_file().generation > 1; };
  for (int round = 0; round < kRounds || (!enough() && round < 100 * kRounds); ++round) {
    const auto tokens = prompt(random() % kPrefixes, 1 + random() % kLongest);
    const std::uint32_t what = random() % 16;
    if (what == 0) {
      ignore_error(ns->evict(tip_key(ns, tokens)), "it may not be there, or be held");
    } else if (what < 4) {
      ignore_error(ns->prefetch(tip_key(ns, tokens)), "it may not be there");
    } else {
      ignore_error(put(*ns, tokens), "what is leased may fill DRAM");
    }
  }
  over = true;
  for (std::thread& client : clients) client.join();
  EXPECT_GE(told, 200);
  EXPECT_GT(ns->index_file().generation, 1U);
  EXPECT_GT(asked, told) << "everything stayed in DRAM";
}

TEST_F(StorePlaces, AreNotToldOfAKeyThatWasStoredAgain) {
  open(options(2 * kSlab, 64 << 20));
  const auto ns = space("ns", tiny_geometry());
  const auto tokens = prompt(1, 10);
  const Key key = tip_key(ns, tokens);
  ASSERT_OK(put(*ns, tokens));
  IndexClient index = index_of(ns);
  const Tip tip = index.view().tip(key);
  const auto lease = ns->lease(key, true);
  ASSERT_OK(lease);
  ASSERT_TRUE(places(index.view(), tip).told);
  const auto before = extents_of(**lease);
  // Removed, it lives on for its holder; what is stored now is another block of the same name.
  ASSERT_OK(ns->evict(key));
  ASSERT_OK(put(*ns, tokens));
  EXPECT_FALSE(places(index.view(), tip).told);
  EXPECT_TRUE(same(extents_of(**lease), before));
  const Tip now = index.view().tip(key);
  EXPECT_NE(now.id, tip.id);
  const auto another = ns->lease(key, true);
  ASSERT_OK(another);
  EXPECT_TRUE(same(places(index.view(), now).at, extents_of(**another)));
}

TEST_F(StorePlaces, AreNotToldOfAPrefixThatStreams) {
  open(options(2 * kSlab, 64 << 20));
  const auto ns = space("ns", tiny_geometry());
  for (const std::uint32_t blocks : {512U, 513U}) {  // half of DRAM, and one more
    const auto tokens = prompt(blocks, blocks);
    ASSERT_OK(put(*ns, tokens));
    IndexClient index = index_of(ns);
    const Tip tip = index.view().tip(tip_key(ns, tokens));
    const auto lease = ns->lease(tip_key(ns, tokens), true);
    ASSERT_OK(lease);
    EXPECT_EQ(places(index.view(), tip).told, blocks == 512);
  }
}

TEST_F(StorePlaces, EndWithTheStore) {
  for (const bool keep_dram : {true, false}) {
    open(options(2 * kSlab, 64 << 20));
    auto ns = space("ns", tiny_geometry());
    const auto tokens = prompt(keep_dram ? 1 : 2, 10);
    ASSERT_OK(put(*ns, tokens));
    const Namespace::IndexFile file = ns->index_file();
    void* const memory = ::mmap(nullptr, file.bytes, PROT_READ, MAP_SHARED, file.fd, 0);
    ASSERT_NE(memory, MAP_FAILED);
    const auto view =
        IndexView::attach({static_cast<const std::byte*>(memory), file.bytes}, ns->geometry());
    ASSERT_OK(view);
    const Tip tip = view->tip(tip_key(ns, tokens));
    ASSERT_TRUE(places(*view, tip).told);
    ns.reset();
    ASSERT_OK(store_->close(in_seconds(20), keep_dram));
    store_.reset();
    // What is kept stays right until another store has begun to use it.
    EXPECT_EQ(places(*view, tip).told, keep_dram);
    open(options(2 * kSlab, 64 << 20));
    EXPECT_FALSE(places(*view, tip).told);
    ::munmap(memory, file.bytes);
  }
}

}  // namespace
}  // namespace kvfs::store
