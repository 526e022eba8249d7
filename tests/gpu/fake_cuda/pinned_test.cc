// Host memory that two GPUs of a process have pinned, one of which goes.
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <mutex>

#include "gpu/cuda_driver.h"
#include "gpu/cuda_pinned.h"
#include "tests/gpu/fake_cuda/fake_cuda.h"

namespace kvfs::gpu::test {
namespace {

using kvfs::test::fake_cuda;

bool is_pinned(const void* memory) {
  const std::lock_guard lock(fake_cuda().mutex);
  return fake_cuda().pinned.contains(memory);
}

// The one whose context pinned it takes it along, if nobody holds that.
TEST(Pinned, MemoryOutlivesTheDeviceThatPinnedItFirst) {
  const Result<const CudaDriver*> driver = CudaDriver::get();
  ASSERT_TRUE(driver) << driver.error().message;
  const CudaDriver& cuda = **driver;
  constexpr CUdevice kFirst = 1;
  constexpr CUdevice kLast = 0;
  CUcontext first = nullptr;
  CUcontext last = nullptr;
  ASSERT_EQ(cuda.context_retain(&first, kFirst), CUDA_SUCCESS);
  ASSERT_EQ(cuda.context_retain(&last, kLast), CUDA_SUCCESS);
  std::array<std::byte, 4096> memory{};
  CudaPinned& pinned = CudaPinned::get();
  for (CUcontext context : {first, last}) {
    const CudaContextScope scope(cuda, context);
    EXPECT_TRUE(pinned.add(cuda, memory, true));
  }
  {
    const CudaContextScope scope(cuda, first);
    pinned.remove(cuda, memory.data());
  }
  cuda.context_release(kFirst);
  EXPECT_TRUE(is_pinned(memory.data()));
  {
    const CudaContextScope scope(cuda, last);
    pinned.remove(cuda, memory.data());
  }
  cuda.context_release(kLast);
  EXPECT_FALSE(is_pinned(memory.data()));
  EXPECT_EQ(fake_cuda().holders[kFirst], 0);
}

}  // namespace
}  // namespace kvfs::gpu::test
