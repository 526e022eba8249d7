#include "lib/format/checksum.h"

#include <gtest/gtest.h>

#include <vector>

namespace kvfs {
namespace {

TEST(Checksum, IsXxh3OfTheBytes) {
  // Published test value of XXH3-64 for no bytes, seed 0.
  EXPECT_EQ(block_checksum({}), 0x2d06800538d394c2ULL);
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
