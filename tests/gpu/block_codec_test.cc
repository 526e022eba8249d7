// Whole encoded blocks: the bytes a device makes from pages, any range of what a file shows.
#include "gpu/block_codec.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

namespace kvfs::gpu::test {
namespace {

constexpr BlockShape kShape{.heads = 3,
                            .layers = 5,
                            .kv_factor = 2,
                            .tokens = 32,
                            .head_dim = 40,
                            .element_bytes = 2,
                            .encoding = Encoding::kPacked};
using Bytes = std::vector<std::byte>;

// Values whose exponents lie as close together as those of keys and values.
Bytes canonical_block(unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Bytes block(kShape.bytes());
  for (std::size_t at = 0; at < block.size(); at += 2) {
    const float value = normal(random);
    std::memcpy(&block[at], reinterpret_cast<const std::byte*>(&value) + 2, 2);
  }
  return block;
}

Bytes random_bytes(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  Bytes bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

// The block's own memory as pages.
std::shared_ptr<const Pages> pages_of(Bytes& block, const BlockShape& shape) {
  const auto pages = std::make_shared<Pages>();
  pages->token_stride = shape.head_dim * 2;
  pages->kv_stride = pages->token_stride * shape.tokens;
  pages->head_stride = static_cast<std::int64_t>(shape.head_bytes());
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer) {
    pages->layers.push_back(block.data() + layer * 2 * pages->kv_stride);
  }
  return pages;
}

TEST(BlockCodec, PacksWhatADevicePacksFromPages) {
  Bytes block = canonical_block(1);
  const auto pages = pages_of(block, kShape);
  Bytes by_device(kShape.stored_bytes(), std::byte{0x5a});
  const BlockAt at{by_device.data(), 0};
  Status status;
  make_cpu_device(1)->gather(kShape, {&at, 1}, pages, {}, [&](Status done) { status = done; });
  ASSERT_TRUE(status);
  Bytes packed(kShape.stored_bytes(), std::byte{0xa5});
  EXPECT_TRUE(write_tensor(kShape, BlockTensor::kNumbers, block.data(), packed.data()));
  EXPECT_TRUE(packed == by_device);
  EXPECT_TRUE(block_fits(kShape, packed.data()));
}

TEST(BlockCodec, AnyRangeUnpacksToAnyAddress) {
  const Bytes block = canonical_block(2);
  Bytes packed(kShape.stored_bytes());
  ASSERT_TRUE(write_tensor(kShape, BlockTensor::kNumbers, block.data(), packed.data()));
  std::mt19937 random(3);
  for (int round = 0; round < 500; ++round) {
    const std::size_t from = round == 0 ? 0 : random() % (block.size() + 1);
    const std::size_t to = round == 0 ? block.size() : from + random() % (block.size() - from + 1);
    const std::size_t shift = random() % 5;
    // As large as the range, so that a sanitizer sees what leaves it.
    Bytes out(shift + to - from);
    read_tensor(kShape, BlockTensor::kNumbers, packed.data(), from, to, out.data() + shift);
    ASSERT_TRUE(std::equal(out.begin() + static_cast<std::ptrdiff_t>(shift), out.end(),
                           block.begin() + static_cast<std::ptrdiff_t>(from)))
        << "[" << from << ", " << to << ") at " << shift;
  }
}

TEST(BlockCodec, RandomNumbersDoNotFitAndOneHeadIsEnough) {
  Bytes block = canonical_block(4);
  Bytes packed(kShape.stored_bytes());
  for (std::uint32_t head = 0; head < kShape.heads; ++head) {
    Bytes bad = block;
    const Bytes noise = random_bytes(kShape.head_bytes(), head);
    std::copy(noise.begin(), noise.end(),
              bad.begin() + static_cast<std::ptrdiff_t>(head * kShape.head_bytes()));
    EXPECT_FALSE(write_tensor(kShape, BlockTensor::kNumbers, bad.data(), packed.data()));
    EXPECT_FALSE(block_fits(kShape, packed.data()));
  }
}

TEST(BlockCodec, ArbitraryBytesUnpackToSomethingWithinTheRange) {
  for (unsigned seed = 0; seed < 50; ++seed) {
    const Bytes packed = random_bytes(kShape.stored_bytes(), seed);
    Bytes out(kShape.bytes() - 7);
    read_tensor(kShape, BlockTensor::kNumbers, packed.data(), 3, kShape.bytes() - 4, out.data());
    (void)block_fits(kShape, packed.data());
  }
}

// Numbers, scales and errors in any pieces make the block that a device stored.
TEST(BlockCodec, TensorsOfAQuantizedBlockAreAllOfIt) {
  BlockShape shape = kShape;
  for (const Encoding encoding : {Encoding::kFp8, Encoding::kInt8}) {
    shape.encoding = encoding;
    Bytes block = canonical_block(5);
    const auto pages = pages_of(block, shape);
    Bytes stored(shape.stored_bytes(), std::byte{0x5a});
    const BlockAt at{stored.data(), 0};
    make_cpu_device(1)->gather(shape, {&at, 1}, pages, {}, [](Status done) { ASSERT_TRUE(done); });
    Bytes again(shape.stored_bytes());
    std::mt19937 random(6);
    for (const BlockTensor tensor : block_tensors(encoding)) {
      const std::size_t planes = std::size_t{shape.heads} * shape.planes();
      const std::size_t bytes =
          tensor == BlockTensor::kNumbers ? shape.bytes() / 2 : planes * sizeof(float);
      Bytes values(bytes);
      read_tensor(shape, tensor, stored.data(), 0, bytes, values.data());
      for (int round = 0; round < 100; ++round) {
        const std::size_t from = random() % bytes;
        const std::size_t to = from + random() % (bytes - from + 1);
        Bytes part(to - from);
        read_tensor(shape, tensor, stored.data(), from, to, part.data());
        ASSERT_TRUE(std::equal(part.begin(), part.end(),
                               values.begin() + static_cast<std::ptrdiff_t>(from)));
      }
      EXPECT_TRUE(write_tensor(shape, tensor, values.data(), again.data()));
    }
    EXPECT_TRUE(again == stored);
    QuantizeErrors errors;
    add_block_errors(shape, stored.data(), errors);
    EXPECT_GT(errors.largest, 0.001F);
    EXPECT_LT(errors.largest, 0.3F);
    EXPECT_EQ(errors.saturated_planes, 0U);
  }
}

}  // namespace
}  // namespace kvfs::gpu::test
