#include "fs/mount/worker.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>

namespace kvfs::mount {
namespace {

TEST(Worker, RunsJobsInOrder) {
  std::vector<int> seen;
  {
    Worker worker("test", 1);
    for (int i = 0; i < 100; ++i) worker.post([&seen, i] { seen.push_back(i); });
  }
  ASSERT_EQ(seen.size(), 100U) << "stop() waits for what was posted";
  for (int i = 0; i < 100; ++i) EXPECT_EQ(seen[static_cast<std::size_t>(i)], i);
}

TEST(Worker, JobsMayPostJobs) {
  Worker worker("test", 2);
  std::promise<void> done;
  worker.post([&] { worker.post([&] { done.set_value(); }); });
  done.get_future().wait();
}

TEST(Worker, AfterStopJobsAreDestroyedUnrun) {
  Worker worker("test", 1);
  worker.stop();
  auto token = std::make_shared<int>(0);
  bool ran = false;
  worker.post([token, &ran] { ran = true; });
  EXPECT_FALSE(ran);
  EXPECT_EQ(token.use_count(), 1);
  EXPECT_EQ(worker.queued(), 0U);
}

}  // namespace
}  // namespace kvfs::mount
