#include "lib/format/checksum.h"

#include <gtest/gtest.h>
#include <xxhash.h>  // the library's function, not the inlined one of checksum.cc

#include <algorithm>
#include <random>
#include <vector>

namespace kvfs {
namespace {

TEST(Checksum, IsXxh3OfTheBytes) {
  // Published test value of XXH3-64 for no bytes, seed 0.
  EXPECT_EQ(block_checksum({}), 0x2d06800538d394c2ULL);
}

// What other builds have written is read: of every length, and wherever in memory it begins.
TEST(Checksum, IsTheLibrarys) {
  constexpr std::size_t kMost = 3 << 20;
  std::vector<std::byte> memory(kMost + 64);
  std::mt19937_64 random(1);
  std::ranges::generate(memory, [&] { return static_cast<std::byte>(random()); });
  const auto expect_same = [&](std::size_t begin, std::size_t bytes) {
    const std::span block = std::span(memory).subspan(begin, bytes);
    EXPECT_EQ(block_checksum(block), XXH3_64bits(block.data(), block.size()))
        << bytes << " bytes from " << begin;
  };
  for (std::size_t bytes = 0; bytes < 4200; ++bytes) expect_same(bytes % 64, bytes);
  for (int i = 0; i < 50; ++i) expect_same(random() % 64, random() % kMost);
  expect_same(0, kMost);
}

TEST(Checksum, SeesEveryFlippedBit) {
  std::vector<std::byte> block(4096);
  for (std::size_t i = 0; i < block.size(); ++i) block[i] = static_cast<std::byte>(i * 7);
  const std::uint64_t right = block_checksum(block);
  for (std::size_t bit = 0; bit < block.size() * 8; bit += 5) {
    const auto mask = static_cast<std::byte>(1U << (bit % 8));
    block[bit / 8] ^= mask;
    EXPECT_NE(block_checksum(block), right) << "bit " << bit;
    block[bit / 8] ^= mask;
  }
  EXPECT_EQ(block_checksum(block), right);
}

}  // namespace
}  // namespace kvfs
