#include "tools/benchmarks/packing.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

namespace kvfs::bench {
namespace {

gpu::BlockShape shape() {
  return {.heads = 2,
          .layers = 3,
          .kv_factor = 2,
          .tokens = 16,
          .head_dim = 64,
          .element_bytes = 2,
          .encoding = Encoding::kPacked};
}

TEST(Packing, CountsWhatItKeptAndWhatStayedRaw) {
  Packing packing(shape());
  std::vector<std::uint16_t> block(shape().bytes() / 2, 0x3f80);
  packing.add(block);
  // One escape, in the last layer's V of the second head.
  block.back() = 0x0001;
  packing.add(block);
  nlohmann::json result = packing.result();
  EXPECT_EQ(result["tokens"], 32);
  EXPECT_EQ(result["blocks_kept_raw"], 0);
  EXPECT_EQ(result["bits_different"], 0);
  EXPECT_EQ(result["most_escapes_of_a_head"], 1);
  EXPECT_EQ(result["layers"][2]["escapes"][1], 1.0 / (4 * 16 * 64));
  EXPECT_EQ(result["layers"][2]["escapes"][0], 0.0);
  EXPECT_GT(result["ratio"], 1.3);

  std::mt19937 random(1);
  for (std::uint16_t& value : block) value = static_cast<std::uint16_t>(random());
  packing.add(block);
  EXPECT_LT(packing.result()["ratio"], result["ratio"]);
  EXPECT_EQ(packing.result()["blocks_kept_raw"], 1);
}

TEST(Packing, NothingIsAlsoAnAnswer) { EXPECT_EQ(Packing(shape()).result()["tokens"], 0); }

}  // namespace
}  // namespace kvfs::bench
