// Drivers that are older than the CUDA that this library was built with.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <memory>
#include <string>

#include "gpu/device.h"
#include "tests/gpu/fake_cuda/fake_cuda.h"
#include "tests/support/child.h"

namespace kvfs::gpu::test {
namespace {

using kvfs::test::Child;
using kvfs::test::ChildStep;
using kvfs::test::CudaFailure;
using kvfs::test::fake_cuda;
using kvfs::test::Words;

std::string built_with() {
  return "built with CUDA " + std::to_string(CUDA_VERSION / 1000) + "." +
         std::to_string(CUDA_VERSION % 1000 / 10);
}

// No device, for want of this function.
const ChildStep kOldDriver("old_driver", [](const Words& words) {
  kvfs::test::load_old_cuda();
  const Result<std::unique_ptr<Device>> device = make_cuda_device(0);
  if (device || device.error().code != Code::kUnavailable) return 1;
  std::fprintf(stderr, "%s\n", device.error().message.c_str());
  for (const std::string& part : {words.at(0), std::string("CUDA 10.2"), built_with()}) {
    if (device.error().message.find(part) == std::string::npos) return 2;
  }
  return 0;
});

TEST(OldDriver, WithoutAFunctionIsNamedWithItAndBothVersions) {
  EXPECT_EQ(Child(kOldDriver, {"cuDeviceGetUuid_v2"}).wait(), 0);
}

TEST(OldDriver, ThatCannotLoadTheKernelsIsNamedWithBothVersions) {
  fake_cuda().version = 12040;
  {
    const CudaFailure failure({"cuModuleLoadData"}, CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
    const Result<std::unique_ptr<Device>> device = make_cuda_device(0);
    ASSERT_FALSE(device);
    EXPECT_EQ(device.error().code, Code::kUnavailable);
    EXPECT_THAT(device.error().message,
                ::testing::AllOf(::testing::HasSubstr("CUDA_ERROR_UNSUPPORTED_PTX_VERSION"),
                                 ::testing::HasSubstr("the driver is of CUDA 12.4"),
                                 ::testing::HasSubstr(built_with())));
  }
  fake_cuda().version = CUDA_VERSION;
  EXPECT_TRUE(make_cuda_device(0));
}

}  // namespace
}  // namespace kvfs::gpu::test
