#include "fs/mount/instance_lock.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <optional>
#include <string>
#include <thread>

#include "tests/support/temp_directory.h"

namespace kvfs::mount {
namespace {

using std::chrono::milliseconds;

class InstanceLockTest : public testing::Test {
 protected:
  Result<InstanceLock> take(milliseconds wait) {
    return InstanceLock::take(path_, "the store", wait);
  }
  const test::TempDirectory directory_;
  const std::string path_ = directory_.file("made/kvfsd.lock");
};

TEST_F(InstanceLockTest, ASecondDaemonIsToldOfTheFirstAtOnce) {
  auto first = take(milliseconds(0));
  ASSERT_TRUE(first);
  const auto began = std::chrono::steady_clock::now();
  const auto second = take(std::chrono::minutes(1));
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Code::kBusy);
  EXPECT_NE(second.error().message.find("process " + std::to_string(::getpid())),
            std::string::npos);
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(30));
}

TEST_F(InstanceLockTest, OneThatIsEndingIsWaitedFor) {
  auto taken = take(milliseconds(0));
  ASSERT_TRUE(taken);
  std::optional<InstanceLock> first(std::move(*taken));
  first->ending();
  std::thread end([&] {
    std::this_thread::sleep_for(milliseconds(100));
    first.reset();
  });
  const auto second = take(std::chrono::minutes(1));
  end.join();
  EXPECT_TRUE(second) << second.error().message;
}

TEST_F(InstanceLockTest, ButNotForEver) {
  auto first = take(milliseconds(0));
  ASSERT_TRUE(first);
  first->ending();
  const auto second = take(milliseconds(50));
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Code::kBusy);
  EXPECT_NE(second.error().message.find("ending"), std::string::npos);
}

}  // namespace
}  // namespace kvfs::mount
