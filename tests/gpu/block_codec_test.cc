// Whole packed blocks: the bytes a device packs from pages, any range of them unpacked.
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

TEST(BlockCodec, PacksWhatADevicePacksFromPages) {
  Bytes block = canonical_block(1);
  const auto pages = std::make_shared<Pages>();
  pages->token_stride = kShape.head_dim * 2;
  pages->kv_stride = pages->token_stride * kShape.tokens;
  pages->head_stride = static_cast<std::int64_t>(kShape.head_bytes());
  for (std::uint32_t layer = 0; layer < kShape.layers; ++layer) {
    pages->layers.push_back(block.data() + layer * 2 * pages->kv_stride);
  }
  Bytes by_device(kShape.stored_bytes(), std::byte{0x5a});
  const BlockAt at{by_device.data(), 0};
  Status status;
  make_cpu_device(1)->gather(kShape, {&at, 1}, pages, {}, [&](Status done) { status = done; });
  ASSERT_TRUE(status);
  Bytes packed(kShape.stored_bytes(), std::byte{0xa5});
  EXPECT_TRUE(pack_block(kShape, block.data(), packed.data()));
  EXPECT_TRUE(packed == by_device);
  EXPECT_TRUE(block_fits(kShape, packed.data()));
}

TEST(BlockCodec, AnyRangeUnpacksToAnyAddress) {
  const Bytes block = canonical_block(2);
  Bytes packed(kShape.stored_bytes());
  ASSERT_TRUE(pack_block(kShape, block.data(), packed.data()));
  std::mt19937 random(3);
  for (int round = 0; round < 500; ++round) {
    const std::size_t from = round == 0 ? 0 : random() % (block.size() + 1);
    const std::size_t to = round == 0 ? block.size() : from + random() % (block.size() - from + 1);
    const std::size_t shift = random() % 5;
    // As large as the range, so that a sanitizer sees what leaves it.
    Bytes out(shift + to - from);
    unpack_bytes(kShape, packed.data(), from, to, out.data() + shift);
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
    EXPECT_FALSE(pack_block(kShape, bad.data(), packed.data()));
    EXPECT_FALSE(block_fits(kShape, packed.data()));
  }
}

TEST(BlockCodec, ArbitraryBytesUnpackToSomethingWithinTheRange) {
  for (unsigned seed = 0; seed < 50; ++seed) {
    const Bytes packed = random_bytes(kShape.stored_bytes(), seed);
    Bytes out(kShape.bytes() - 7);
    unpack_bytes(kShape, packed.data(), 3, kShape.bytes() - 4, out.data());
    (void)block_fits(kShape, packed.data());
  }
}

}  // namespace
}  // namespace kvfs::gpu::test
