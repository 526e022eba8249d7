#include "fs/tiers/gpu_tier.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "gpu/device.h"
#include "tests/support/fault_pool.h"

namespace kvfs::tiers {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr SlabOwner kOne{.namespace_id = 1, .group = 0};
constexpr SlabOwner kOther{.namespace_id = 2, .group = 0};

class GpuTierTest : public ::testing::Test {
 protected:
  GpuTier& make(const GpuOptions& options) {
    return tier_.emplace(options, std::make_unique<test::FaultPool>(device_));
  }
  std::shared_ptr<test::FaultPool::Device> device_ = std::make_shared<test::FaultPool::Device>();
  std::optional<GpuTier> tier_;
};

TEST_F(GpuTierTest, SlotsAreDistinctAndTheCapacityIsHard) {
  GpuTier& tier = make({.capacity = 6 * kMiB, .slab_bytes = 2 * kMiB});
  std::set<std::pair<SlabId, std::uint32_t>> taken;
  for (int i = 0; i < 6; ++i) {
    const auto slot = tier.allocate(kOne, kMiB);
    ASSERT_TRUE(slot) << slot.error().message;
    EXPECT_GE(slot->slab, kFirstGpuSlab);
    EXPECT_TRUE(taken.emplace(slot->slab, slot->slot).second);
  }
  EXPECT_EQ(tier.allocate(kOne, kMiB).error().code, Code::kNoSpace);
  EXPECT_EQ(tier.used_bytes(), 6 * kMiB);
  EXPECT_EQ(device_->pieces, 3U);
  tier.free({taken.begin()->first, taken.begin()->second});
  EXPECT_TRUE(tier.allocate(kOne, kMiB));
  EXPECT_EQ(tier.allocate(kOther, kMiB).error().code, Code::kNoSpace);  // no slab of its own
}

TEST_F(GpuTierTest, WhatIsWrittenIsThereForWhoMapsTheSlab) {
  GpuTier& tier = make({.capacity = 4 * kMiB, .slab_bytes = 2 * kMiB});
  ASSERT_TRUE(tier.allocate(kOne, kMiB));
  const auto slot = tier.allocate(kOne, kMiB);
  ASSERT_TRUE(slot);
  const std::vector<std::byte> bytes(kMiB, std::byte{9});
  ASSERT_TRUE(tier.write(*slot, bytes));
  const auto handle = tier.handle(slot->slab);
  ASSERT_TRUE(handle);
  const auto mapped = gpu::make_cpu_device(1)->map(*handle);
  ASSERT_TRUE(mapped) << mapped.error().message;
  EXPECT_EQ(std::memcmp((*mapped)->data() + slot->slot * kMiB, bytes.data(), kMiB), 0);
  EXPECT_EQ(tier.handle(slot->slab + 1).error().code, Code::kNotFound);
}

TEST_F(GpuTierTest, ARetiredSlabGoesWithItsLastSlotAndItsLastDescriptor) {
  GpuTier& tier = make({.capacity = 2 * kMiB, .slab_bytes = 2 * kMiB});
  const auto slot = tier.allocate(kOne, kMiB);
  ASSERT_TRUE(slot);
  tier.count_open(slot->slab, +1);
  EXPECT_FALSE(tier.retiring(slot->slab));
  tier.retire(slot->slab);
  EXPECT_TRUE(tier.retiring(slot->slab));
  EXPECT_EQ(tier.allocate(kOne, kMiB).error().code, Code::kNoSpace);
  EXPECT_TRUE(tier.remove_retired().empty());  // a slot is taken
  tier.free(*slot);
  EXPECT_TRUE(tier.remove_retired().empty());  // somebody maps it
  EXPECT_TRUE(tier.handle(slot->slab));
  tier.count_open(slot->slab, -1);
  EXPECT_EQ(tier.remove_retired().size(), 1U);
  EXPECT_EQ(device_->pieces, 0U);
  EXPECT_TRUE(tier.retiring(slot->slab));  // gone
  EXPECT_EQ(tier.reserved_bytes(), 0U);
  const auto next = tier.allocate(kOther, kMiB);
  ASSERT_TRUE(next);
  EXPECT_NE(next->slab, slot->slab);  // an id never means two things
}

TEST_F(GpuTierTest, WhatOthersAreToHaveIsNotTaken) {
  device_->spare = 5 * kMiB;
  GpuTier& tier = make({.capacity = 64 * kMiB, .slab_bytes = 2 * kMiB, .reserve = 2 * kMiB});
  const auto slot = tier.allocate(kOne, 2 * kMiB);
  ASSERT_TRUE(slot);
  EXPECT_EQ(tier.allocate(kOne, 2 * kMiB).error().code, Code::kNoSpace);
  EXPECT_EQ(tier.reserved_bytes(), 2 * kMiB);  // what was claimed in vain was given back
  EXPECT_EQ(*tier.shortage(), 0U);
  device_->spare = kMiB / 2;
  EXPECT_EQ(*tier.shortage(), 2 * kMiB - kMiB / 2);
  tier.retire(slot->slab);
  EXPECT_EQ(*tier.shortage(), 0U);  // it is on its way
  device_->lost = true;
  EXPECT_EQ(tier.shortage().error().code, Code::kIo);
  EXPECT_EQ(tier.allocate(kOther, kMiB).error().code, Code::kIo);
}

TEST_F(GpuTierTest, ManyAtOnceStayWithinTheCapacity) {
  GpuTier& tier = make({.capacity = 16 * kMiB, .slab_bytes = 2 * kMiB});
  std::vector<std::thread> threads;
  std::atomic<bool> within = true;
  for (std::uint32_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < 300; ++i) {
        const auto slot = tier.allocate({.namespace_id = thread, .group = 0}, kMiB);
        if (tier.reserved_bytes() > tier.capacity()) within = false;
        if (slot && i % 3 != 0) tier.retire(slot->slab);
        if (slot) tier.free(*slot);
        tier.remove_retired();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(within);
  for (const GpuSlabView& slab : tier.slabs()) EXPECT_EQ(slab.used, 0U);
}

}  // namespace
}  // namespace kvfs::tiers
