// Host memory that several devices of a process copy out of.
#include <gtest/gtest.h>

#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>

#include "tests/gpu/pinned_by_engine.h"
#include "tests/gpu/prefix.h"
#include "tests/gpu/subject.h"

namespace kvfs::gpu::test {
namespace {

using namespace std::chrono_literals;

// Whether somebody has pinned it: the driver refuses to do so once more.
bool is_pinned(std::span<std::byte> memory) {
  try {
    const PinnedByEngine pinned(memory);
    return false;
  } catch (const std::runtime_error&) {
    return true;
  }
}

class Pinned : public ::testing::TestWithParam<const char*> {};

TEST_P(Pinned, MemoryOfTwoDevicesStaysPinnedForTheLastOne) {
  if (const char* why = no_cuda(); why != nullptr) GTEST_SKIP() << why;
  Result<Subject> one = make_subject(GetParam());
  Result<Subject> two = make_subject(GetParam());
  ASSERT_TRUE(one && two);
  Prefix prefix(*two, 40);
  const auto memory = prefix.memory();
  // By threads of theirs, which do not try twice: looking would be in their way.
  one->device->register_memory(memory, memory.size(), true);
  two->device->register_memory(memory, memory.size(), true);
  std::this_thread::sleep_for(1s);
  ASSERT_TRUE(is_pinned(memory));
  one->device->unregister_memory(memory);
  EXPECT_TRUE(is_pinned(memory));
  const Status status = prefix.begin_load().get();
  EXPECT_TRUE(status) << status.error().message;
  EXPECT_TRUE(prefix.is_loaded());
  two->device->unregister_memory(memory);
  EXPECT_FALSE(is_pinned(memory));
}

INSTANTIATE_TEST_SUITE_P(Devices, Pinned, ::testing::Values("cuda"),
                         [](const auto& device) { return std::string(device.param); });

}  // namespace
}  // namespace kvfs::gpu::test
