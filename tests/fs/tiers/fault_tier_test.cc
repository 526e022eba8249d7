#include "tests/support/fault_tier.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "fs/tiers/nvme_tier.h"
#include "tests/fs/tiers/block_io.h"
#include "tests/support/temp_directory.h"

namespace kvfs::test {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kBlock = 64 << 10;

class FaultTierTest : public testing::Test {
 protected:
  void SetUp() override {
    auto inner = tiers::open_nvme_tier(
        {.directories = {{directory_.file("nvme"), 64 << 20}}, .store_id = "s"});
    ASSERT_TRUE(inner) << inner.error().message;
    tier_ = std::make_unique<FaultTier>(*std::move(inner));
    slot_ = *tier_->allocate(kBlock);
    memory_.fill(0, kBlock, 1);
    ASSERT_TRUE(wait_write(*tier_, slot_, memory_.all()));
  }
  TempDirectory directory_;
  std::unique_ptr<FaultTier> tier_;
  tiers::TierSlot slot_;
  Memory memory_{kBlock};
};

TEST_F(FaultTierTest, FailsTheNthAndNoOther) {
  tier_->fail_read(2, Code::kIo);
  EXPECT_TRUE(wait_read(*tier_, slot_, memory_.all()));
  EXPECT_EQ(wait_read(*tier_, slot_, memory_.all()).error().code, Code::kIo);
  EXPECT_TRUE(wait_read(*tier_, slot_, memory_.all()));
  tier_->fail_write(1, Code::kTimeout);
  EXPECT_EQ(wait_write(*tier_, slot_, memory_.all()).error().code, Code::kTimeout);
  EXPECT_TRUE(wait_write(*tier_, slot_, memory_.all()));
  tier_->fail_all(Code::kIo);
  EXPECT_FALSE(wait_write(*tier_, slot_, memory_.all()));
  tier_->fail_all(std::nullopt);
  EXPECT_TRUE(wait_read(*tier_, slot_, memory_.all()));
  EXPECT_EQ(tier_->reads(), 4U);
  EXPECT_EQ(tier_->writes(), 4U);
}

TEST_F(FaultTierTest, FlipsOneBit) {
  tier_->flip_bit(1, 12345);
  EXPECT_TRUE(wait_read(*tier_, slot_, memory_.all()));
  EXPECT_FALSE(memory_.holds(0, kBlock, 1));
  memory_.all()[12345 / 8] ^= std::byte{1} << 12345 % 8;
  EXPECT_TRUE(memory_.holds(0, kBlock, 1));
  EXPECT_TRUE(wait_read(*tier_, slot_, memory_.all()));
  EXPECT_TRUE(memory_.holds(0, kBlock, 1));
}

TEST_F(FaultTierTest, HoldsCompletionsWhileFrozen) {
  tier_->freeze();
  Completions all;
  for (int i = 0; i < 3; ++i) tier_->read(slot_, memory_.all(), all.expect());
  while (tier_->held() != 3) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(all.left(), 3);
  tier_->thaw();
  EXPECT_TRUE(all.wait_all());
}

TEST_F(FaultTierTest, DelaysAndDeliversAtTheEnd) {
  tier_->delay(30ms);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_TRUE(wait_read(*tier_, slot_, memory_.all()));
  EXPECT_GE(std::chrono::steady_clock::now() - start, 30ms);
  tier_->freeze();
  Completions all;
  tier_->read(slot_, memory_.all(), all.expect());
  tier_.reset();
  EXPECT_TRUE(all.wait_all());
}

TEST_F(FaultTierTest, IsFullOnDemand) {
  tier_->no_space(true);
  EXPECT_EQ(tier_->allocate(kBlock).error().code, Code::kNoSpace);
  tier_->no_space(false);
  EXPECT_TRUE(tier_->allocate(kBlock));
  tier_->fail_sync(Code::kIo);
  EXPECT_FALSE(tier_->sync());
  tier_->fail_sync(std::nullopt);
  EXPECT_TRUE(tier_->sync());
}

}  // namespace
}  // namespace kvfs::test
