#include "tools/benchmarks/real_kv.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <vector>

#include "tests/support/temp_directory.h"
#include "tools/benchmarks/data.h"

namespace kvfs::bench {
namespace {

constexpr std::uint32_t kHeads = 3, kLayers = 30, kTokens = 16, kDim = 64;
using Numbers = std::vector<std::uint16_t>;

struct Place {
  std::uint32_t block, head, layer, kv, token, channel;
};

// A file whose numbers say something of their place.
template <typename Say>
RealKv file_of(std::uint32_t blocks, const Say& say) {
  std::string bytes;
  for (std::uint32_t i = 0; i < blocks * kHeads * kLayers * 2 * kTokens * kDim; ++i) {
    const std::uint32_t plane = i / kDim / kTokens;
    const Place place{.block = plane / 2 / kLayers / kHeads,
                      .head = plane / 2 / kLayers % kHeads,
                      .layer = plane / 2 % kLayers,
                      .kv = plane % 2,
                      .token = i / kDim % kTokens,
                      .channel = i % kDim};
    const std::uint16_t number = say(place);
    bytes.append(reinterpret_cast<const char*>(&number), sizeof(number));
  }
  return RealKv(std::move(bytes));
}

gpu::BlockShape llama(std::uint32_t tokens) {
  return {.heads = 8,
          .layers = 32,
          .kv_factor = 2,
          .tokens = tokens,
          .head_dim = 128,
          .element_bytes = 2};
}

Numbers block_of(const RealKv& kv, const gpu::BlockShape& shape, std::uint64_t number) {
  Numbers numbers(shape.bytes() / 2);
  kv.block(number, shape, std::as_writable_bytes(std::span(numbers)));
  return numbers;
}

TEST(RealKv, LayersKAndVTokensAndChannelsStayWhatTheyAre) {
  const RealKv kv = file_of(1, [](const Place& place) {
    return static_cast<std::uint16_t>(((place.layer * 2 + place.kv) * kTokens + place.token) * 64 +
                                      place.channel);
  });
  const gpu::BlockShape shape = llama(64);
  const Numbers numbers = block_of(kv, shape, 3);
  for (std::uint32_t i = 0; i < numbers.size(); ++i) {
    const std::uint32_t token = i / 128 % 64;
    const std::uint32_t plane = i / 128 / 64 % shape.planes();
    const std::uint32_t wanted =
        ((plane / 2 % kLayers * 2 + plane % 2) * kTokens + token % kTokens) * 64 + i % 64;
    ASSERT_EQ(numbers[i], static_cast<std::uint16_t>(wanted)) << i;
  }
}

TEST(RealKv, BandsAreTakenInTurnAndAllOfThem) {
  constexpr std::uint32_t kBlocks = 5;
  const RealKv kv = file_of(kBlocks, [](const Place& place) {
    return static_cast<std::uint16_t>(place.block * kHeads + place.head);
  });
  EXPECT_EQ(kv.blocks(), kBlocks);
  const gpu::BlockShape shape = llama(32);
  std::uint64_t turn = 0;
  for (std::uint64_t number = 0; number < 4; ++number) {
    const Numbers numbers = block_of(kv, shape, number);
    for (std::uint32_t head = 0; head < shape.heads; ++head) {
      for (std::uint32_t band = 0; band < 2; ++band) {
        for (std::uint32_t part = 0; part < 2; ++part, ++turn) {
          // The same in every plane; the first and the last token and channel of the band.
          for (const std::uint32_t plane : {0U, shape.planes() - 1}) {
            for (const std::uint32_t at : {0U, 15 * 128 + 63U}) {
              const std::size_t token =
                  (std::size_t{head} * shape.planes() + plane) * 32 + band * 16;
              EXPECT_EQ(numbers[token * 128 + part * 64 + at], turn % (kBlocks * kHeads));
            }
          }
        }
      }
    }
  }
}

TEST(RealKv, WhatIsNotWholeBlocksIsRefused) {
  const test::TempDirectory directory;
  const std::string file = directory.file("kv");
  EXPECT_EQ(RealKv::read(file).error().code, Code::kNotFound);
  std::ofstream(file) << std::string(1000, 'x');
  EXPECT_EQ(RealKv::read(file).error().code, Code::kInvalid);
  std::ofstream(file) << std::string(2 * kHeads * kLayers * 2 * kTokens * kDim * 2, 'x');
  Result<std::shared_ptr<const RealKv>> kv = RealKv::read(file);
  ASSERT_TRUE(kv);
  EXPECT_EQ((*kv)->blocks(), 2U);
  EXPECT_TRUE((*kv)->fits(llama(16)));
  EXPECT_FALSE((*kv)->fits(llama(24)));
}

// Two blocks of an engine's own.
struct Cache {
  gpu::BlockShape shape{
      .heads = 2, .layers = 3, .kv_factor = 2, .tokens = 16, .head_dim = 64, .element_bytes = 2};
  Numbers numbers;
  gpu::Pages pages;

  Cache() : numbers(2 * shape.bytes() / 2) {
    auto* const at = reinterpret_cast<std::byte*>(numbers.data());
    for (std::uint32_t i = 0; i < shape.layers; ++i) {
      pages.layers.push_back(at + i * (2 * shape.bytes() / shape.layers));
    }
    pages.head_stride = std::int64_t{16} * 64 * 2;
    pages.page_stride = pages.head_stride * 2;
    pages.kv_stride = pages.page_stride * 2;
    pages.token_stride = 128;
    pages.page_tokens = 16;
    pages.page_table = {1, 0};
  }
};

float value(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

TEST(StoreAndLoad, EveryBitOrARoundedNumberComesBack) {
  for (const Encoding encoding :
       {Encoding::kRaw, Encoding::kPacked, Encoding::kFp8, Encoding::kInt8}) {
    Cache cache;
    fill_with_numbers(std::as_writable_bytes(std::span(cache.numbers)));
    const Numbers before = cache.numbers;
    cache.shape.encoding = encoding;
    ASSERT_TRUE(store_and_load(cache.shape, cache.pages, 2));
    ASSERT_EQ(cache.numbers == before, !kvfs::quantized(encoding));
    for (std::size_t i = 0; i < before.size(); ++i) {
      const float was = value(before[i]);
      // Numbers below 8; BF16 rounds once more.
      ASSERT_LE(std::fabs(value(cache.numbers[i]) - was), std::fabs(was) / 14 + 8.0F / 254) << i;
    }
  }
}

TEST(FillPages, HoldsTheBlocksInOrder) {
  Cache cache;
  const RealKv kv = file_of(4, [](const Place& place) {
    return static_cast<std::uint16_t>(place.block * kHeads + place.head);
  });
  ASSERT_TRUE(fill_pages(kv, cache.shape, cache.pages, 2));
  // Block 0 lies in page 1: heads 0 and 1, then those of block 1 in page 0.
  const std::size_t head = std::size_t{16} * 64;
  for (const auto& [at, number] :
       {std::pair{2 * head, 0}, {3 * head, 1}, {0 * head, 2}, {head, 3}}) {
    EXPECT_EQ(cache.numbers[at], number);
    EXPECT_EQ(cache.numbers[at + head - 1], number);
  }
}

}  // namespace
}  // namespace kvfs::bench
