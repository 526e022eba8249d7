#include "lib/format/index_view.h"

#include <gmock/gmock.h>

#include <numeric>
#include <utility>

#include "tests/lib/format/geometries.h"
#include "tests/lib/format/index_image.h"

namespace kvfs {
namespace {

using test::hybrid_geometry;
using test::IndexImage;
using test::small_geometry;
using testing::AllOf;
using testing::HasSubstr;

constexpr std::uint32_t kCapacity = 256;

// An index with one prefix in it, whose block i is record `first_id + i`.
struct Cached {
  explicit Cached(const Geometry& g, std::uint32_t blocks, BlockId first_id = 20,
                  std::vector<ExtraAt> with = {})
      : geometry(g),
        first(first_id),
        extras(std::move(with)),
        image(geometry, kCapacity),
        tokens(std::size_t{blocks} * g.block_tokens),
        keys(blocks) {
    std::iota(tokens.begin(), tokens.end(), 100);
    chain_keys(geometry.seed(), tokens, geometry.block_tokens, extras, keys);
    const auto all = static_cast<std::uint16_t>((1U << g.groups.size()) - 1);
    for (std::uint32_t i = 0; i < blocks; ++i) {
      Extra extra;
      for (const ExtraAt& at : extras) {
        if (at.block == i) extra = at.extra;
      }
      image.write_record(
          first + i,
          {.parent = i == 0 ? kNoBlock : first + i - 1,
           .key = keys[i],
           .extra = extra,
           .depth = i,
           .groups = all,
           .flags = kRecordInDram},
          std::span(tokens).subspan(std::size_t{i} * g.block_tokens, g.block_tokens));
      image.publish(first + i, keys[i]);
    }
  }
  IndexView view() {
    Result<IndexView> attached = IndexView::attach(image.bytes(), geometry);
    EXPECT_TRUE(attached) << attached.error().message;
    return *attached;
  }
  Match match() { return view().match(keys, tokens, extras); }

  Geometry geometry;
  BlockId first;
  std::vector<ExtraAt> extras;
  IndexImage image;
  std::vector<Token> tokens;
  std::vector<Key> keys;
};

TEST(IndexView, FindsEveryPublishedRecordAndNothingElse) {
  Cached cached(small_geometry(), 40);
  const IndexView view = cached.view();
  for (std::uint32_t i = 0; i < 40; ++i) {
    EXPECT_EQ(view.find(cached.keys[i]), cached.first + i);
    EXPECT_EQ(view.find({.lo = cached.keys[i].lo, .hi = cached.keys[i].hi ^ 1}), kNoBlock);
    EXPECT_EQ(view.find({.lo = cached.keys[i].lo ^ 1, .hi = cached.keys[i].hi}), kNoBlock);
  }
}

TEST(IndexView, FollowsOverflowAndWrapsAround) {
  Cached cached(small_geometry(), 1);
  const std::uint32_t last = cached.image.header().bucket_count - 1;
  // Three buckets' worth of keys whose home is the last bucket.
  std::vector<Key> keys;
  for (std::uint32_t i = 0; i < 3 * kBucketEntries; ++i) {
    keys.push_back({.lo = std::uint64_t{i} << 32 | last, .hi = std::uint64_t{i + 1} << 32});
    cached.image.write_record(100 + i, {.parent = kNoBlock, .key = keys[i]}, {});
    cached.image.publish(100 + i, keys[i]);
  }
  const IndexView view = cached.view();
  for (std::uint32_t i = 0; i < keys.size(); ++i) EXPECT_EQ(view.find(keys[i]), 100 + i);
  EXPECT_EQ(view.find({.lo = last, .hi = 77}), kNoBlock);
}

TEST(IndexView, FindEndsInATableThatIsFullOfOverflow) {
  Cached cached(small_geometry(), 1);
  for (std::uint32_t b = 0; b < cached.image.header().bucket_count; ++b)
    cached.image.bucket(b).overflow = 1;
  EXPECT_EQ(cached.view().find({.lo = 1, .hi = 1}), kNoBlock);
}

TEST(IndexView, MatchesTheLongestCachedPrefix) {
  for (const std::uint32_t blocks : {1U, 2U, 3U, 7U, 8U, 40U}) {
    Cached cached(small_geometry(), blocks);
    Match match = cached.match();
    EXPECT_EQ(match.blocks, blocks);
    EXPECT_EQ(match.dram_blocks, blocks);
    EXPECT_EQ(match.tip, cached.first + blocks - 1);
    EXPECT_EQ(match.key, cached.keys.back());

    // A prompt that goes on beyond what is cached, and one that turns off inside.
    std::vector<Token> longer = cached.tokens;
    longer.resize(longer.size() + 10, 7);
    std::vector<Key> keys(longer.size() / 4);
    chain_keys(cached.geometry.seed(), longer, 4, {}, keys);
    EXPECT_EQ(cached.view().match(keys, longer).blocks, blocks);
    std::vector<Token> branch = cached.tokens;
    branch[branch.size() / 2] ^= 1;
    chain_keys(cached.geometry.seed(), branch, 4, {}, keys);
    EXPECT_EQ(cached.view().match(keys, branch).blocks, branch.size() / 2 / 4);
  }
}

TEST(IndexView, MatchesNothingWhereNothingIs) {
  Cached cached(small_geometry(), 5);
  EXPECT_EQ(cached.view().match({}, {}).blocks, 0U);
  EXPECT_EQ(cached.view().match(cached.keys, {}).blocks, 0U);
  std::vector<Token> other(20, 1);
  std::vector<Key> keys(5);
  chain_keys(cached.geometry.seed(), other, 4, {}, keys);
  const Match match = cached.view().match(keys, other);
  EXPECT_EQ(match.blocks, 0U);
  EXPECT_EQ(match.tip, kNoBlock);
  EXPECT_TRUE(match.key.is_zero());
}

TEST(IndexView, ACollidingKeyServesNoOtherPrompt) {
  // The keys agree, as if XXH3 had collided, the tokens do not: every single token counts.
  for (std::size_t token = 0; token < 32; ++token) {
    Cached cached(small_geometry(), 8);
    std::vector<Token> other = cached.tokens;
    other[token] ^= 1 << (token % 31);
    const Match match = cached.view().match(cached.keys, other);
    EXPECT_EQ(match.blocks, token / 4) << "token " << token;
  }
}

TEST(IndexView, OddBlocksAreComparedToTheirLastToken) {
  Geometry geometry = small_geometry();
  geometry.block_tokens = 5;
  for (std::size_t token = 0; token < 15; ++token) {
    Cached cached(geometry, 3);
    EXPECT_EQ(cached.match().blocks, 3U);
    std::vector<Token> other = cached.tokens;
    other[token] ^= 1;
    EXPECT_EQ(cached.view().match(cached.keys, other).blocks, token / 5);
  }
}

TEST(IndexView, ExtrasMustAgree) {
  const std::vector<ExtraAt> extras{{.block = 2, .extra = {.lo = 1, .hi = 2}},
                                    {.block = 5, .extra = {.lo = 3}}};
  Cached cached(small_geometry(), 8, 20, extras);
  EXPECT_EQ(cached.match().blocks, 8U);
  // With the same keys, so that only the comparison can tell.
  std::vector<ExtraAt> other = extras;
  other[1].extra.lo = 4;
  EXPECT_EQ(cached.view().match(cached.keys, cached.tokens, other).blocks, 5U);
  EXPECT_EQ(cached.view().match(cached.keys, cached.tokens, {}).blocks, 2U);
  other = extras;
  other.push_back({.block = 7, .extra = {.hi = 1}});
  EXPECT_EQ(cached.view().match(cached.keys, cached.tokens, other).blocks, 7U);
}

TEST(IndexView, RecordsInAnyOrderMatch) {
  Cached cached(small_geometry(), 10);
  // Block 4 moves to a record far away.
  cached.image.write_record(200, cached.image.record(24), std::span(cached.image.tokens(24), 4));
  cached.image.record(25).parent = 200;
  cached.image.record(24).key = {};
  for (std::uint32_t b = 0; b < cached.image.header().bucket_count; ++b) {
    for (std::uint64_t& entry : cached.image.bucket(b).entries) {
      if ((entry & 0xffffffff) == 25) entry += 200 - 24;
    }
  }
  EXPECT_EQ(cached.match().blocks, 10U);
}

TEST(IndexView, ATornOrRewrittenRecordShortensTheMatch) {
  for (std::uint32_t at = 0; at < 10; ++at) {
    Cached torn(small_geometry(), 10);
    torn.image.record(torn.first + at).seq = 3;
    EXPECT_EQ(torn.match().blocks, at);
    EXPECT_EQ(torn.match().tip, at == 0 ? kNoBlock : torn.first + at - 1);

    Cached rewritten(small_geometry(), 10);
    rewritten.image.record(rewritten.first + at).key.hi ^= 1;
    EXPECT_EQ(rewritten.match().blocks, at);

    Cached misplaced(small_geometry(), 10);
    misplaced.image.record(misplaced.first + at).depth += 1;
    EXPECT_EQ(misplaced.match().blocks, at);
  }
}

TEST(IndexView, ABlockThatMovedIsFoundByItsKey) {
  Cached cached(small_geometry(), 10);
  // Record 25 still names 24 as its parent, but block 4 lives in 200 now.
  cached.image.write_record(200, cached.image.record(24), std::span(cached.image.tokens(24), 4));
  cached.image.record(24).key = {};
  cached.image.publish(200, cached.keys[4]);
  EXPECT_EQ(cached.match().blocks, 5U);
  EXPECT_EQ(cached.match().tip, 200U);
}

TEST(IndexView, IdsAndParentsBeyondTheTableAreRefused) {
  Cached cached(small_geometry(), 6);
  cached.image.record(cached.first + 3).parent = kCapacity;
  EXPECT_EQ(cached.match().blocks, 3U);
  Cached wild(small_geometry(), 6);
  for (std::uint32_t b = 0; b < wild.image.header().bucket_count; ++b) {
    for (std::uint64_t& entry : wild.image.bucket(b).entries) entry |= entry != 0 ? 0xffffff : 0;
  }
  EXPECT_EQ(wild.match().blocks, 0U);
}

TEST(IndexView, ATagThatMisleadsTheSearchOnlyCostsTime) {
  // Entries with the tags of keys that are not there, pointing at records of others.
  Cached cached(small_geometry(), 6);
  std::vector<Token> longer = cached.tokens;
  longer.resize(longer.size() + 24, 9);
  std::vector<Key> keys(12);
  chain_keys(cached.geometry.seed(), longer, 4, {}, keys);
  for (std::uint32_t i = 6; i < 12; ++i) cached.image.publish(cached.first, keys[i]);
  EXPECT_EQ(cached.view().match(keys, longer).blocks, 6U);
}

TEST(IndexView, AWindowNeedsItsLastBlocksOnly) {
  const std::uint32_t blocks = 12;  // the window has 3
  for (std::uint32_t lacking = 0; lacking < blocks; ++lacking) {
    Cached cached(hybrid_geometry(), blocks);
    cached.image.record(cached.first + lacking).groups = 1;
    EXPECT_EQ(cached.match().blocks, lacking + 3 < blocks ? blocks : lacking) << lacking;
  }
  // Only blocks 2, 3, 4 have the window: the match ends at 5.
  Cached cached(hybrid_geometry(), blocks);
  for (std::uint32_t i = 0; i < blocks; ++i) {
    if (i < 2 || i > 4) cached.image.record(cached.first + i).groups = 1;
  }
  cached.image.record(cached.first + 3).flags = kRecordOnNvme;
  const Match match = cached.match();
  EXPECT_EQ(match.blocks, 5U);
  EXPECT_EQ(match.tip, cached.first + 4);
  EXPECT_EQ(match.key, cached.keys[4]);
  EXPECT_EQ(match.dram_blocks, 4U);
  // None has it: nothing can be served.
  for (std::uint32_t i = 0; i < blocks; ++i) cached.image.record(cached.first + i).groups = 1;
  EXPECT_EQ(cached.match().blocks, 0U);
}

TEST(IndexView, AFullGroupIsNeededEverywhere) {
  Cached cached(hybrid_geometry(), 8);
  cached.image.record(cached.first + 2).groups = 2;
  EXPECT_EQ(cached.match().blocks, 2U);
}

TEST(IndexView, AttachRefusesWhatItCannotRead) {
  const std::vector<std::tuple<Code, const char*, const char*, void (*)(IndexHeader&)>> wrong{
      {Code::kCorrupt, "not a kvfs index", "Open it again", [](IndexHeader& h) { h.magic ^= 1; }},
      {Code::kMismatch, "version 9", "same release", [](IndexHeader& h) { h.version = 9; }},
      {Code::kMismatch, "another geometry", "geometry.json",
       [](IndexHeader& h) { h.seed.lo ^= 1; }},
      {Code::kMismatch, "another geometry", "geometry.json",
       [](IndexHeader& h) { h.block_tokens = 8; }},
      {Code::kMismatch, "another geometry", "geometry.json", [](IndexHeader& h) { h.groups = 2; }},
      {Code::kCorrupt, "contradicts", "Open it again", [](IndexHeader& h) { h.bucket_count = 3; }},
      {Code::kCorrupt, "contradicts", "Open it again", [](IndexHeader& h) { h.bucket_count = 0; }},
      {Code::kCorrupt, "contradicts", "Open it again",
       [](IndexHeader& h) { h.record_capacity *= 64; }},
      {Code::kCorrupt, "contradicts", "Open it again", [](IndexHeader& h) { h.record_bytes += 8; }},
      {Code::kCorrupt, "contradicts", "Open it again",
       [](IndexHeader& h) { h.records_offset += 8; }},
      {Code::kCorrupt, "contradicts", "Open it again", [](IndexHeader& h) { h.file_bytes *= 2; }},
  };
  for (const auto& [code, name, remedy, damage] : wrong) {
    Cached cached(small_geometry(), 2);
    damage(cached.image.header());
    const Result<IndexView> view = IndexView::attach(cached.image.bytes(), cached.geometry);
    ASSERT_FALSE(view) << name;
    EXPECT_EQ(view.error().code, code);
    EXPECT_THAT(view.error().message, AllOf(HasSubstr(name), HasSubstr(remedy)));
  }
  Cached cached(small_geometry(), 2);
  const auto bytes = std::span<const std::byte>(cached.image.bytes());
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{100}, std::size_t{4096}, bytes.size() - 1}) {
    const Result<IndexView> view = IndexView::attach(bytes.first(size), cached.geometry);
    ASSERT_FALSE(view) << size;
    EXPECT_THAT(view.error().message, AllOf(HasSubstr("mapped"), HasSubstr("pen it again")));
  }
}

// Block i of group g is in slot 10 * i + g of slab g + 1.
void place_all(Cached& cached) {
  for (std::uint32_t i = 0; i < cached.keys.size(); ++i) {
    for (std::uint32_t g = 0; g < cached.geometry.groups.size(); ++g)
      cached.image.place(cached.first + i, g) = make_place(g + 1, 10 * i + g);
  }
}

TEST(IndexView, TellsWhereTheBlocksOfALeaseAre) {
  Cached cached(hybrid_geometry(), 8);
  place_all(cached);
  cached.image.gpu_place(cached.first + 4, 1) = make_place(kFirstGpuSlab, 77);
  const IndexView view = cached.view();
  const Tip tip = view.tip(cached.keys[5]);
  EXPECT_EQ(tip.blocks, 6U);
  for (std::uint32_t g = 0; g < 2; ++g) {
    for (const auto& [first, count] : {std::pair{0U, 6U}, {2U, 3U}, {5U, 1U}, {6U, 0U}}) {
      std::vector<Places> places(count);
      ASSERT_TRUE(view.places(tip, g, first, places));
      for (std::uint32_t i = 0; i < count; ++i) {
        EXPECT_EQ(places[i].dram.slab, g + 1);
        EXPECT_EQ(places[i].dram.slot, 10 * (first + i) + g);
        const bool on_gpu = g == 1 && first + i == 4;
        EXPECT_EQ(places[i].gpu.slab, on_gpu ? kFirstGpuSlab : kSlabNotResident);
        EXPECT_EQ(places[i].gpu.slot, on_gpu ? 77U : 0xffffffffU);
      }
    }
  }
}

TEST(IndexView, TellsNoPlacesThatItDoesNotKnow) {
  Cached cached(small_geometry(), 4);
  place_all(cached);
  const IndexView view = cached.view();
  const Tip tip = view.tip(cached.keys[3]);
  std::vector<Places> places(3);
  const auto all = [&](std::uint32_t first) { return view.places(tip, 0, first, places); };
  ASSERT_TRUE(all(0));

  cached.image.place(cached.first + 1, 0) = kNoPlace;
  EXPECT_TRUE(all(0));
  EXPECT_EQ(places[0].dram.slab, 1U);
  EXPECT_EQ(places[1].dram.slab, kSlabNotResident);
  EXPECT_EQ(places[1].gpu.slab, kSlabNotResident);
  place_all(cached);

  const auto refuses_while = [&](auto& field, auto value) {
    const auto before = std::exchange(field, value);
    EXPECT_FALSE(all(0));
    field = before;
    EXPECT_TRUE(all(0));
  };
  RecordHeader& record = cached.image.record(cached.first + 3);
  refuses_while(record.seq, record.seq + 2);  // another block's now
  refuses_while(record.seq, record.seq + 1);  // about to be
  refuses_while(record.flags, static_cast<std::uint16_t>(kRecordInDram | kRecordRemoved));
  refuses_while(cached.image.record(cached.first).depth, 7U);
  refuses_while(cached.image.header().held_blocks, 3U);
  refuses_while(cached.image.header().superseded, 1U);
  EXPECT_FALSE(view.places({}, 0, 0, places));
  EXPECT_EQ(view.tip({1, 2}).blocks, 0U);
}

TEST(IndexView, ShowsWhatTheDaemonSignals) {
  Cached cached(small_geometry(), 1);
  const IndexView view = cached.view();
  EXPECT_FALSE(view.superseded());
  EXPECT_EQ(view.slabs_retired(), 0U);
  cached.image.header().superseded = 1;
  cached.image.header().slabs_retired = 3;
  EXPECT_TRUE(view.superseded());
  EXPECT_EQ(view.slabs_retired(), 3U);
}

}  // namespace
}  // namespace kvfs
