// The parts of a lane's transfers and the copies of a part, without a device.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "gpu/lane_movement.h"
#include "gpu/lane_spans.h"
#include "tests/gpu/copy_case.h"

namespace kvfs::gpu::test {
namespace {

const After kNothing;

std::vector<LanePiece> pieces_of(const LaneMovement& movement, LaneDirection direction) {
  std::vector<LanePiece> pieces;
  for (LanePieces parts(movement, direction); !parts.at_end();) pieces.push_back(parts.next());
  return pieces;
}

// What a device would do: every copy takes its rows as wide as the first one.
std::size_t copy(std::vector<LaneSpan> spans, std::vector<std::byte>& stage) {
  std::size_t copies = 0;
  for (std::span<LaneSpan> rest = spans; !rest.empty(); ++copies) {
    const LaneRows rows = first_rows(rest);
    for (std::uint64_t row = 0; row < rows.count; ++row) {
      const std::uint64_t to = rows.first.device + row * rows.device_stride;
      EXPECT_LE(to + rows.first.bytes, stage.size());
      std::memcpy(&stage.at(to), rows.first.host + row * rows.host_stride,
                  std::min(rows.first.bytes, stage.size() - to));
    }
    rest = rest.subspan(rows.count);
  }
  return copies;
}

const auto kEncodings = ::testing::Values(Encoding::kRaw, Encoding::kPacked, Encoding::kFp8);
std::string encoding_name(const ::testing::TestParamInfo<Encoding>& encoding) {
  if (encoding.param == Encoding::kRaw) return "raw";
  return encoding.param == Encoding::kPacked ? "packed" : "fp8";
}

class Lane : public ::testing::TestWithParam<Encoding> {};

TEST_P(Lane, APartHasWhatIsWantedOfEachHead) {
  for (std::uint32_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const Case c = make_case(random, 5, GetParam());
    std::vector<std::byte> slab = random.bytes(slot_bytes(c.shape) * c.blocks.size());
    const std::vector<BlockAt> at = blocks_in(c, slab.data());
    const LaneMovement movement = movement_of(c.shape, at, c.pages, kNothing);
    const bool fetch = random.upto(0, 1) == 0;
    std::size_t heads = 0;
    for (const LanePiece& piece : pieces_of(movement, LaneDirection::kLoad)) {
      const LaneTaken taken = take_piece(movement, piece, fetch);
      const std::uint64_t each = taken.planes.head_bytes;
      std::vector<std::byte> stage(piece.blocks.size() * piece.heads * each, std::byte{0xee});
      std::vector<std::byte> wanted = stage;
      copy(taken.spans, stage);
      heads += piece.blocks.size() * piece.heads;
      const std::uint32_t first = c.pages.first_head + piece.first_head;
      LayerPart part{.rows = {{{0, 0, each}}}, .row_count = 1};
      if (movement.some_layers()) {
        part = layer_part(c.shape, c.pages,
                          escapes_of(c.shape, c.pages, piece.blocks, first, piece.heads));
      }
      std::size_t copied = 0;
      for (const LayerPart::Row& row : part.all()) {
        const auto same = [&row](const LayerPart::Row& other) { return other.to == row.to; };
        if (std::ranges::any_of(taken.fetched, same)) continue;
        ++copied;
        for (std::size_t i = 0; i < piece.blocks.size() * piece.heads; ++i) {
          std::memcpy(&wanted.at(i * each + row.to),
                      piece.blocks[i / piece.heads].memory +
                          (first + i % piece.heads) * c.shape.stored_head_bytes() + row.from,
                      row.bytes);
        }
      }
      EXPECT_EQ(copied + taken.fetched.size(), part.row_count);
      ASSERT_TRUE(stage == wanted);
    }
    EXPECT_EQ(heads, c.blocks.size() * movement.heads);
  }
}

INSTANTIATE_TEST_SUITE_P(Encodings, Lane, kEncodings, encoding_name);

// Llama-3.1-8B's blocks of 16 tokens, in slots as the store has them. Memory is only counted, but
// for where escapes end.
class Llama : public ::testing::TestWithParam<Encoding> {
 protected:
  Llama() {
    made_.shape = {.heads = 8,
                   .layers = 32,
                   .kv_factor = 2,
                   .tokens = 16,
                   .head_dim = 128,
                   .element_bytes = 2,
                   .encoding = GetParam()};
    made_.pages.layers.resize(32);
    made_.pages.layer_count = 11;
    for (std::uint32_t block = 0; block < 100; ++block) made_.blocks.push_back(block);
    slab_.resize(slot_bytes(made_.shape) * made_.blocks.size());
    at_ = blocks_in(made_, slab_.data());
  }
  Case made_;
  std::vector<std::byte> slab_;
  std::vector<BlockAt> at_;
};

// A copy for each block costs a third of the link.
TEST_P(Llama, LayersOfManyBlocksAreFewCopies) {
  const LaneMovement movement = movement_of(made_.shape, at_, made_.pages, kNothing);
  const std::vector<LanePiece> pieces = pieces_of(movement, LaneDirection::kLoad);
  const LanePiece& first = pieces.front();
  EXPECT_GT(first.blocks.size(), 40U);
  const LaneTaken taken = take_piece(movement, first, true);
  EXPECT_EQ(taken.fetched.size(), GetParam() == Encoding::kRaw ? 0U : 1U);  // of these, no escapes
  std::vector<std::byte> stage(first.blocks.size() * first.heads * taken.planes.head_bytes);
  EXPECT_LE(copy(taken.spans, stage), 8U);
}

// Rows of different lengths are never one copy, however far apart they are.
TEST_P(Llama, OneHeadsRowsAreCopiedAsTheyAre) {
  for (std::uint32_t plane = 0; plane < made_.shape.planes();
       ++plane) {  // packed: its escapes' end
    const std::uint32_t end = 50 * (plane + 1);
    std::memcpy(&slab_[plane * sizeof(end)], &end, sizeof(end));
  }
  made_.pages.head_count = 1;
  at_.resize(1);
  const LaneMovement movement = movement_of(made_.shape, at_, made_.pages, kNothing);
  const LanePiece piece = LanePieces(movement, LaneDirection::kLoad).next();
  const LaneTaken taken = take_piece(movement, piece, false);
  const std::size_t rows = GetParam() == Encoding::kRaw      ? 1
                           : GetParam() == Encoding::kPacked ? 3
                                                             : 2;
  ASSERT_EQ(taken.spans.size(), rows);
  std::vector<std::byte> stage(taken.planes.head_bytes);
  EXPECT_EQ(copy(taken.spans, stage), rows);
}

TEST_P(Llama, PartsGetSmallerBeforeNothingFollows) {
  Pages more = made_.pages;
  more.more_follows = true;
  const LaneMovement last = movement_of(made_.shape, at_, made_.pages, kNothing);
  const LaneMovement followed = movement_of(made_.shape, at_, more, kNothing);
  const auto parts = [](const LaneMovement& movement) {
    return pieces_of(movement, LaneDirection::kLoad);
  };
  EXPECT_GT(parts(last).size(), parts(followed).size() + 1);
  EXPECT_LT(parts(last).back().blocks.size(), 5U);
}

INSTANTIATE_TEST_SUITE_P(Encodings, Llama, kEncodings, encoding_name);

}  // namespace
}  // namespace kvfs::gpu::test
