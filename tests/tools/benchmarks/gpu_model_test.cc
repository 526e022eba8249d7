#include "tools/benchmarks/gpu_model.h"

#include <gtest/gtest.h>

namespace kvfs::bench {
namespace {

TEST(GpuModel, BlocksAreAsLargeAsTheModelsKv) {
  Result<GpuModel> llama = find_gpu_model({});
  ASSERT_TRUE(llama);
  EXPECT_EQ(llama->block_bytes(), std::uint64_t{2} << 20);
  EXPECT_EQ(llama->rank_block_bytes(), llama->block_bytes());
  Result<GpuModel> mla = find_gpu_model({.model = "deepseek-v3"});
  ASSERT_TRUE(mla);
  EXPECT_EQ(mla->block_bytes(), 61U * 576 * 2 * 16);
}

TEST(GpuModel, RanksShareHeads) {
  Result<GpuModel> rank = find_gpu_model({.model = "llama-3.1-70b", .tensor_parallel = 8});
  ASSERT_TRUE(rank);
  EXPECT_EQ(rank->rank_heads, 1U);
  EXPECT_EQ(rank->rank_block_bytes(), rank->block_bytes() / 8);
  EXPECT_EQ(rank->geometry().groups[0].kv_heads, 8U);
}

TEST(GpuModel, WhatCannotBeIsRefused) {
  Result<GpuModel> uneven = find_gpu_model({.tensor_parallel = 3});
  ASSERT_FALSE(uneven);
  EXPECT_EQ(uneven.error().code, Code::kInvalid);
  EXPECT_FALSE(find_gpu_model({.model = "gpt-2"}));
}

}  // namespace
}  // namespace kvfs::bench
