// The library's own memory on the GPU grows while the engine is at work there.
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <string>

#include "tests/gpu/prefix.h"
#include "tests/gpu/subject.h"

namespace kvfs::gpu::test {
namespace {

using namespace std::chrono_literals;

class Stages : public ::testing::TestWithParam<const char*> {};

// To free memory the driver waits for all that the device has been given.
TEST_P(Stages, ThatGrowDoNotWaitForTheEngine) {
  if (const char* why = no_cuda(); why != nullptr) GTEST_SKIP() << why;
  Result<Subject> device = make_subject(GetParam());
  ASSERT_TRUE(device) << device.error().message;
  Prefix small(*device, 2);
  Prefix large(*device, 40);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(small.begin_load().get());
  EngineStream stream;
  std::promise<void> forward;
  stream.wait_for(forward.get_future().share());
  std::future<Status> loaded =
      std::async(std::launch::async, [&large] { return large.begin_load().get(); });
  const bool in_between = loaded.wait_for(20s) == std::future_status::ready;
  forward.set_value();
  EXPECT_TRUE(in_between) << "a load waits for a stream that it has nothing to do with";
  const Status status = loaded.get();
  EXPECT_TRUE(status) << status.error().message;
  stream.wait();
  EXPECT_TRUE(large.is_loaded());
}

INSTANTIATE_TEST_SUITE_P(Devices, Stages, ::testing::Values("cuda"),
                         [](const auto& device) { return std::string(device.param); });

}  // namespace
}  // namespace kvfs::gpu::test
