// Stages that grow from one transfer to the next.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <utility>

#include "gpu/cuda_driver.h"
#include "gpu/cuda_stage.h"
#include "tests/gpu/fake_cuda/fake_cuda.h"
#include "tests/gpu/prefix.h"

namespace kvfs::gpu::test {
namespace {

using kvfs::test::CudaFailure;
using kvfs::test::fake_cuda;

std::size_t memory_in_use() {
  const std::lock_guard lock(fake_cuda().mutex);
  return fake_cuda().device_memory.size() + fake_cuda().host_memory.size();
}

std::size_t bytes_at(CUdeviceptr memory) {
  const std::lock_guard lock(fake_cuda().mutex);
  return fake_cuda().device_memory.at(memory).bytes;
}

std::size_t bytes_on_device() {
  const std::lock_guard lock(fake_cuda().mutex);
  std::size_t all = 0;
  for (const auto& [pointer, memory] : fake_cuda().device_memory) all += memory.bytes;
  return all;
}

// Each of them waits for the whole device.
int frees() {
  const std::lock_guard lock(fake_cuda().mutex);
  return fake_cuda().calls["cuMemFree_v2"] + fake_cuda().calls["cuMemFreeHost"];
}

Subject gpu() {
  Result<std::unique_ptr<Device>> device = make_cuda_device(0);
  if (!device) throw std::runtime_error(device.error().message);
  return {std::move(*device), Where::kCuda};
}

TEST(Stages, FreeNothingWhileTransfersComeAndGo) {
  const std::size_t before = memory_in_use();
  {
    const Subject subject = gpu();
    for (const std::uint32_t blocks : {1U, 2U, 3U, 5U, 9U, 14U}) {
      Prefix prefix(subject, blocks);
      const int freed = frees();
      const Status status = prefix.begin_load().get();
      ASSERT_TRUE(status) << status.error().message;
      EXPECT_EQ(frees(), freed);
      EXPECT_TRUE(prefix.is_loaded());
    }
  }
  EXPECT_EQ(memory_in_use(), before);
}

TEST(Stages, HaveOutgrownLessThanTheyUse) {
  const Result<const CudaDriver*> driver = CudaDriver::get();
  ASSERT_TRUE(driver) << driver.error().message;
  CUcontext context = nullptr;
  ASSERT_EQ((*driver)->context_retain(&context, 0), CUDA_SUCCESS);
  {
    const CudaContextScope scope(**driver, context);
    const std::size_t before = bytes_on_device();
    CudaBuffer buffer(**driver, CudaBuffer::Where::kDevice);
    for (std::size_t pages = 1; pages <= 100; ++pages) {
      ASSERT_TRUE(buffer.reserve(pages * 4096));
      const std::size_t used = bytes_at(buffer.device());
      EXPECT_GE(used, pages * 4096);
      EXPECT_LT(bytes_on_device() - before, 2 * used);
    }
  }
  (*driver)->context_release(0);
}

TEST(Stages, ThatCannotGrowServeWhatTheyHaveRoomFor) {
  const Subject subject = gpu();
  Prefix small(subject, 2);
  Prefix large(subject, 14);
  const auto small_loads = [&small] {  // through all stages, by turns
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(small.begin_load().get());
  };
  small_loads();
  {
    const CudaFailure failure({"cuMemAlloc_v2"}, CUDA_ERROR_OUT_OF_MEMORY);
    const Status status = large.begin_load().get();
    ASSERT_FALSE(status);
    EXPECT_THAT(status.error().message,
                ::testing::HasSubstr("allocating device memory: CUDA_ERROR_OUT_OF_MEMORY"));
    small_loads();
    EXPECT_TRUE(small.is_loaded());
  }
  EXPECT_TRUE(large.begin_load().get());
  EXPECT_TRUE(large.is_loaded());
}

}  // namespace
}  // namespace kvfs::gpu::test
