#include "fs/mount/end_watch.h"

#include <pthread.h>
#include <unistd.h>

#include <utility>

#include "fs/exit_code.h"

namespace kvfs::mount {

void EndWatch::arm(store::Deadline deadline, std::function<void()> last_word) {
  const MutexLock lock(mutex_);
  if (thread_.joinable() || over_) return;
  thread_ = std::thread([this, deadline, last_word = std::move(last_word)] {
    pthread_setname_np(pthread_self(), "kvfs-end");
    {
      MutexLock waiting(mutex_);
      while (!over_ && store::Clock::now() < deadline) changed_.wait_until(waiting, deadline);
      if (over_) return;
    }
    last_word();
    ::_exit(static_cast<int>(ExitCode::kTimeout));
  });
}

void EndWatch::disarm() {
  std::thread ended;
  {
    const MutexLock lock(mutex_);
    over_ = true;
    changed_.notify_all();
    ended.swap(thread_);
  }
  if (ended.joinable()) ended.join();
}

}  // namespace kvfs::mount
