// An engine captures a CUDA graph while this library is at work.
#include <gtest/gtest.h>

#include <string>

#include "tests/gpu/prefix.h"
#include "tests/gpu/subject.h"

namespace kvfs::gpu::test {
namespace {

class Capture : public ::testing::TestWithParam<const char*> {};

// The driver is strict about all threads while a capture of the usual mode goes on: what it refuses
// one of them ends the capture, too.
TEST_P(Capture, IsNotEndedByPinningAndCopies) {
  if (const char* why = no_cuda(); why != nullptr) GTEST_SKIP() << why;
  Result<Subject> device = make_subject(GetParam());
  ASSERT_TRUE(device) << device.error().message;
  Prefix prefix(*device, 256);
  const auto engine = allocate(Where::kCuda, 4096);
  EngineStream stream;
  stream.begin_capture();
  device->device->register_memory(prefix.memory(), prefix.memory().size() / 8, true);
  for (int i = 0; i < 20; ++i) {
    stream.fill(engine->base(), 1, 4096);
    const Status status = prefix.begin_load().get();
    EXPECT_TRUE(status) << status.error().message;
  }
  device->device->unregister_memory(prefix.memory());
  EXPECT_EQ(stream.end_capture(), 0);
  EXPECT_TRUE(prefix.is_loaded());
}

INSTANTIATE_TEST_SUITE_P(Devices, Capture, ::testing::Values("cuda"),
                         [](const auto& device) { return std::string(device.param); });

}  // namespace
}  // namespace kvfs::gpu::test
