// Memory of a device for several processes, as far as one process can tell; the rest is in
// tests/gpu/client/gpu_tier_test.cc, where the owner is a daemon.
#include "gpu/shared_memory.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <vector>

#include "gpu/device.h"
#include "tests/gpu/engine_memory.h"

namespace kvfs::gpu::test {
namespace {

constexpr std::uint64_t kPiece = std::uint64_t{2} << 20;

TEST(SharedMemory, WhatTheOwnerWritesIsSeenWhereItIsMapped) {
  const auto pool = make_host_pool();
  auto piece = pool->allocate(2 * kPiece);
  ASSERT_TRUE(piece) << piece.error().message;
  EXPECT_EQ((*piece)->handle().bytes, 2 * kPiece);
  const auto device = make_cpu_device(1);
  auto mapped = device->map((*piece)->handle());
  ASSERT_TRUE(mapped) << mapped.error().message;
  const std::vector<std::byte> bytes(4096, std::byte{7});
  ASSERT_TRUE((*piece)->write(kPiece, bytes));
  EXPECT_EQ(std::memcmp((*mapped)->data() + kPiece, bytes.data(), bytes.size()), 0);
  // Who maps it keeps what is in it, whatever becomes of the owner.
  piece->reset();
  EXPECT_EQ(std::memcmp((*mapped)->data() + kPiece, bytes.data(), bytes.size()), 0);
}

TEST(SharedMemory, HandlesOfOtherDevicesAndOfNothingAreRefused) {
  const auto device = make_cpu_device(1);
  SharedHandle foreign{.magic = kSharedMagic, .bytes = kPiece};
  foreign.device[0] = 1;
  EXPECT_EQ(device->map(foreign).error().code, Code::kMismatch);
  SharedHandle gone;
  {
    const auto pool = make_host_pool();
    auto piece = pool->allocate(kPiece);
    ASSERT_TRUE(piece);
    gone = (*piece)->handle();
  }
  EXPECT_EQ(device->map(gone).error().code, Code::kIo);
}

TEST(SharedMemory, AGpuSaysHowMuchIsLeft) {
  if (const char* why = no_cuda(); why != nullptr) GTEST_SKIP() << why;
  auto pool = make_cuda_pool(0);
  ASSERT_TRUE(pool) << pool.error().message;
  const auto before = (*pool)->available();
  ASSERT_TRUE(before) << before.error().message;
  auto piece = (*pool)->allocate(32 * kPiece);
  ASSERT_TRUE(piece) << piece.error().message;
  EXPECT_NE((*piece)->handle().device, DeviceId{});
  EXPECT_LE(*(*pool)->available() + 32 * kPiece, *before);
  ASSERT_TRUE((*piece)->write(kPiece, std::vector<std::byte>(kPiece)));
  EXPECT_EQ((*pool)->allocate(std::uint64_t{1} << 50).error().code, Code::kNoSpace);
  // A CPU cannot map it, and says so.
  EXPECT_EQ(make_cpu_device(1)->map((*piece)->handle()).error().code, Code::kMismatch);
}

}  // namespace
}  // namespace kvfs::gpu::test
