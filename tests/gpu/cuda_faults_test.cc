// What a GPU that fails does to copies: an error that names it, or the slower path; never a hang.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/gpu/pinned_by_engine.h"
#include "tests/gpu/prefix.h"
#include "tests/gpu/subject.h"

namespace kvfs::gpu::test {
namespace {

using namespace std::chrono_literals;

// Leaves the GPU next to no memory while it lives.
class AllMemory {
 public:
  AllMemory() {
    for (std::size_t bytes = std::size_t{8} << 30; bytes >= kLeft; bytes /= 2) take(bytes);
  }

 private:
  static constexpr std::size_t kLeft = std::size_t{2} << 20;
  void take(std::size_t bytes) {
    try {
      while (true) taken_.push_back(allocate(Where::kCuda, bytes));
    } catch (const std::runtime_error&) {  // there is no piece of that size any more
    }
  }
  std::vector<std::unique_ptr<EngineMemory>> taken_;
};

class CudaFaults : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (const char* why = no_cuda(); why != nullptr) GTEST_SKIP() << why;
  }
  static Subject subject() {
    Result<Subject> made = make_subject(GetParam());
    if (!made) throw std::runtime_error(made.error().message);
    return std::move(*made);
  }
};

TEST_P(CudaFaults, NoDeviceMemoryLeftIsSaidAndPasses) {
  const Subject device = subject();
  Prefix prefix(device, 40);
  {
    const AllMemory taken;
    const Status status = prefix.begin_load().get();
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, Code::kIo);
    EXPECT_THAT(status.error().message, ::testing::HasSubstr("device memory"));
    EXPECT_THAT(status.error().message, ::testing::HasSubstr("CUDA_ERROR_OUT_OF_MEMORY"));
  }
  const Status status = prefix.begin_load().get();
  ASSERT_TRUE(status) << status.error().message;
  EXPECT_TRUE(prefix.is_loaded());
}

TEST_P(CudaFaults, MemoryThatCannotBePinnedGoesTheSlowerWay) {
  const Subject device = subject();
  Prefix prefix(device, 40);
  {
    const PinnedByEngine pinned(prefix.memory());
    device.device->register_memory(prefix.memory(), prefix.memory().size(), true);
    for (int i = 0; i < 5; ++i) {
      const Status status = prefix.begin_load().get();
      ASSERT_TRUE(status) << status.error().message;
    }
    EXPECT_TRUE(prefix.is_loaded());
    device.device->unregister_memory(prefix.memory());
  }
}

// In a process of its own: no use of the GPU comes back from it. Exit status 0: all as it should
// be.
[[noreturn]] void lose_the_device(Subject lost) {
  const auto fail = [](const char* what) {
    std::fprintf(stderr, "%s\n", what);
    std::_Exit(1);
  };
  {
    const Subject device = std::move(lost);
    Prefix prefix(device, 40);
    if (!prefix.begin_load().get()) fail("the device did not work before");
    EngineStream stream;
    std::vector<std::future<Status>> under_way;
    for (int i = 0; i < 4; ++i) under_way.push_back(prefix.begin_load());
    stream.crash();
    for (int i = 0; i < 4; ++i) under_way.push_back(prefix.begin_load());
    for (const std::future<Status>& load : under_way) {
      if (load.wait_for(20s) != std::future_status::ready) fail("a load hangs");
    }
    std::future<Status> after = prefix.begin_load();
    if (after.wait_for(20s) != std::future_status::ready) fail("a load afterwards hangs");
    const Status status = after.get();
    if (status || status.error().code != Code::kIo) fail("a load afterwards is no I/O error");
    std::fprintf(stderr, "afterwards: %s\n", status.error().message.c_str());
  }
  std::_Exit(0);
}

TEST_P(CudaFaults, ALostDeviceIsAnErrorForAllTransfers) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(lose_the_device(subject()), ::testing::ExitedWithCode(0),
              "afterwards: .*CUDA_ERROR_");
}

INSTANTIATE_TEST_SUITE_P(Devices, CudaFaults, ::testing::Values("cuda"),
                         [](const auto& device) { return std::string(device.param); });

}  // namespace
}  // namespace kvfs::gpu::test
