// Packing: every bit pattern comes back, in every code, and all codes give the same bytes; no bytes
// make unpacking leave its destination.
#include "gpu/pack_codec.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace kvfs::gpu::test {
namespace {

using Values = std::vector<std::uint16_t>;

std::uint16_t bf16(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return static_cast<std::uint16_t>(bits >> 16);
}

std::vector<PackCode> codes() {
  std::vector<PackCode> there{PackCode::kScalar};
  for (const PackCode code : {PackCode::kAvx2, PackCode::kAvx512}) {
    if (has_pack_code(code)) there.push_back(code);
  }
  return there;
}

std::size_t values_of(const PackedLayout& layout) {
  return std::size_t{layout.planes} * layout.tokens * layout.head_dim;
}

// Exactly as large as a head, so that a sanitizer sees what leaves it.
std::vector<std::byte> pack_head(const PackedLayout& layout, const Values& values, PackCode code) {
  std::vector<std::byte> head(layout.head_bytes, std::byte{0xa5});
  HeadPacker packer(layout, head.data(), code);
  for (std::uint32_t plane = 0; plane < layout.planes; ++plane) {
    packer.add(values.data() + std::size_t{plane} * layout.tokens * layout.head_dim);
  }
  EXPECT_EQ(packer.fits(), packed_fits(layout, head.data()));
  return head;
}

Values unpack_head(const PackedLayout& layout, const std::vector<std::byte>& head, PackCode code) {
  Values values(values_of(layout));
  for (std::uint32_t plane = 0; plane < layout.planes; ++plane) {
    unpack_plane(layout, head.data(), plane,
                 values.data() + std::size_t{plane} * layout.tokens * layout.head_dim, code);
  }
  return values;
}

std::vector<PackedLayout> layouts() {
  std::vector<PackedLayout> made;
  for (const std::uint32_t head_dim : {8U, 16U, 40U, 64U, 72U, 80U, 104U, 128U, 256U, 576U}) {
    for (const std::uint32_t tokens : {16U, 48U})
      made.push_back(packed_layout(3, tokens, head_dim));
  }
  return made;
}

// `make(index, channel)`; whether it fits is what the caller says.
void check(const char* name, bool fits,
           const std::function<std::uint16_t(std::size_t, std::uint32_t)>& make) {
  for (const PackedLayout& layout : layouts()) {
    SCOPED_TRACE(std::string(name) + ", head_dim " + std::to_string(layout.head_dim) + ", tokens " +
                 std::to_string(layout.tokens));
    ASSERT_TRUE(packable(layout.tokens, layout.head_dim));
    Values values(values_of(layout));
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = make(i, static_cast<std::uint32_t>(i % layout.head_dim));
    }
    const std::vector<std::byte> wanted = pack_head(layout, values, PackCode::kScalar);
    ASSERT_EQ(packed_fits(layout, wanted.data()), fits);
    for (const PackCode code : codes()) {
      const std::vector<std::byte> packed = pack_head(layout, values, code);
      EXPECT_TRUE(packed == wanted) << "packed by code " << static_cast<int>(code);
      if (fits) {
        EXPECT_TRUE(unpack_head(layout, packed, code) == values)
            << "unpacked by code " << static_cast<int>(code);
      }
    }
    if (testing::Test::HasFailure()) return;
  }
}

TEST(PackCodec, WhatKeysAndValuesLookLike) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  check("normal", true, [&](std::size_t, std::uint32_t channel) {
    return bf16(normal(random) * static_cast<float>(1 + channel % 7));
  });
}

TEST(PackCodec, Constants) {
  for (const unsigned bits : {0x0000U, 0x8000U, 0x0001U, 0x807fU, 0x0080U, 0x3f80U, 0x7f80U,
                              0xff80U, 0x7fc0U, 0x7f81U, 0xffffU}) {
    check("constant", true, [&](std::size_t, std::uint32_t) { return bits; });
  }
}

// All 65,536 values: 8 exponents a plane, each in 16 channels of its own. With `spread`, a
// channel's tokens have seven neighbouring exponents, and all patterns come up still.
TEST(PackCodec, EveryBitPattern) {
  const PackedLayout layout = packed_layout(32, 16, 128);
  for (const std::uint32_t spread : {1U, 7U}) {
    std::vector<bool> seen(65536);
    for (std::uint32_t round = 0; round < spread; ++round) {
      Values values(values_of(layout));
      for (std::uint32_t i = 0; i < values.size(); ++i) {
        const std::uint32_t channel = i % 128;
        const std::uint32_t token = i / 128 % 16;
        const std::uint32_t plane = i / 2048;
        const std::uint32_t exponent = plane * 8 + channel / 16;
        const std::uint32_t below = std::min(exponent, (token + round) % spread);
        const std::uint32_t rest = token * 16 + channel % 16;  // sign and mantissa
        values[i] = static_cast<std::uint16_t>((rest & 0x80U) << 8 | (exponent - below) << 7 |
                                               (rest & 0x7fU));
        seen[values[i]] = true;
      }
      for (const PackCode code : codes()) {
        const std::vector<std::byte> packed = pack_head(layout, values, code);
        ASSERT_TRUE(packed_fits(layout, packed.data()));
        ASSERT_TRUE(unpack_head(layout, packed, code) == values);
      }
    }
    EXPECT_EQ(std::count(seen.begin(), seen.end(), true), 65536);
  }
}

// As many as there is room for, anywhere, of every kind; and one more.
TEST(PackCodec, EscapesUpToTheRoom) {
  std::mt19937 random(2);
  for (const PackedLayout& layout : layouts()) {
    for (const std::uint32_t more : {0U, 1U}) {
      Values values(values_of(layout), 0x7f80);
      std::vector<std::size_t> places(values.size());
      std::iota(places.begin(), places.end(), 0);
      std::shuffle(places.begin(), places.end(), random);
      // A channel of a band that has nothing but escapes would have none.
      std::vector<std::uint32_t> in_channel(values.size() / kBandTokens);
      std::uint32_t wanted = layout.escape_room + more;
      for (std::size_t i = 0; wanted > 0 && i < places.size(); ++i) {
        const std::size_t band = places[i] / layout.head_dim / kBandTokens;
        std::uint32_t& there = in_channel[band * layout.head_dim + places[i] % layout.head_dim];
        if (++there == kBandTokens) continue;
        values[places[i]] = static_cast<std::uint16_t>(random() & 0x807fU) |
                            static_cast<std::uint16_t>((random() % 249) << 7);
        --wanted;
      }
      ASSERT_EQ(wanted, 0U);
      for (const PackCode code : codes()) {
        const std::vector<std::byte> packed = pack_head(layout, values, code);
        ASSERT_EQ(packed_fits(layout, packed.data()), more == 0);
        if (more == 0) {
          ASSERT_TRUE(unpack_head(layout, packed, code) == values);
        }
        ASSERT_TRUE(packed == pack_head(layout, values, PackCode::kScalar));
      }
    }
  }
}

TEST(PackCodec, RandomBitsDoNotFit) {
  std::mt19937 random(3);
  check("random", false,
        [&](std::size_t, std::uint32_t) { return static_cast<std::uint16_t>(random()); });
}

// What is corrupt decodes to something, alike in all codes, and nothing outside is written or read:
// heads and planes are allocated by themselves, exactly as large as they are.
TEST(PackCodec, ArbitraryBytesStayInside) {
  std::mt19937 random(4);
  const std::vector<PackedLayout> all = layouts();
  for (std::uint32_t round = 0; round < 400; ++round) {
    const PackedLayout& layout = all[round % all.size()];
    std::vector<std::byte> head(layout.head_bytes);
    if (round % 2 == 0) {
      for (std::byte& byte : head) byte = static_cast<std::byte>(random());
    } else {  // nothing but escapes, with ends near the room's
      std::fill(head.begin(), head.end(), std::byte{0xff});
      for (std::uint32_t plane = 0; plane < layout.planes; ++plane) {
        const std::uint32_t end = layout.escape_room - 3 + static_cast<std::uint32_t>(random() % 6);
        std::memcpy(head.data() + plane * sizeof(end), &end, sizeof(end));
      }
    }
    const Values wanted = unpack_head(layout, head, PackCode::kScalar);
    for (const PackCode code : codes()) {
      for (std::uint32_t plane = 0; plane < layout.planes; ++plane) {
        const std::size_t count = std::size_t{layout.tokens} * layout.head_dim;
        const auto values = std::make_unique<std::uint16_t[]>(count);
        unpack_plane(layout, head.data(), plane, values.get(), code);
        ASSERT_TRUE(std::equal(values.get(), values.get() + count, wanted.data() + plane * count))
            << "code " << static_cast<int>(code) << ", round " << round;
      }
    }
  }
}

// What the format promises of Llama-3.1-8B: 2 MiB in 3/4, slots included.
TEST(PackCodec, Sizes) {
  const PackedLayout layout = packed_layout(64, 16, 128);
  EXPECT_EQ(layout.band_bytes, 2944U);
  EXPECT_EQ(layout.head_bytes % 64, 0U);
  EXPECT_LT(8 * layout.head_bytes * 4, (std::uint64_t{2} << 20) * 3);
  EXPECT_FALSE(packable(8, 128));
  EXPECT_FALSE(packable(16, 20));
  EXPECT_FALSE(packable(0, 128));
}

}  // namespace
}  // namespace kvfs::gpu::test
