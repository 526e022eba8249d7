// CopyPool: a few threads that share one loop with the thread that asks for it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace kvfs::gpu {

// Threads: run() from any thread; one loop at a time has the helpers, one that comes beside it runs
//          on its caller alone.
// Owns:    threads - 1 helpers, started by the first run() that can use them.
// Blocks:  run() until the whole loop is done.
// Errors:  where threads cannot be started the caller does the work of those that are missing.
class CopyPool {
 public:
  explicit CopyPool(std::uint32_t threads) : wanted_(threads == 0 ? 1 : threads) {}
  ~CopyPool();
  CopyPool(const CopyPool&) = delete;
  CopyPool& operator=(const CopyPool&) = delete;

  // work(begin, end) for disjoint pieces of at most `grain` items that make up [0, items).
  template <typename Work>
  void run(std::size_t items, std::size_t grain, const Work& work) {
    const auto call = [](const void* context, std::size_t begin, std::size_t end) {
      (*static_cast<const Work*>(context))(begin, end);
    };
    run_loop(items, grain, call, &work);
  }

 private:
  using Call = void (*)(const void* context, std::size_t begin, std::size_t end);
  struct Loop {
    Call call;
    const void* context;
    std::size_t items;
    std::size_t grain;
    std::atomic<std::size_t> next{0};
    std::uint32_t helpers = 0;  // inside take_pieces(); guarded by mutex_
  };
  static void take_pieces(Loop& loop);
  void run_loop(std::size_t items, std::size_t grain, Call call, const void* context);
  void start_helpers();
  void help();

  const std::uint32_t wanted_;
  std::mutex turn_;  // held by the caller whose loop has the helpers; taken before mutex_
  std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable idle_;
  Loop* loop_ = nullptr;  // guarded by mutex_
  bool stopping_ = false;
  bool started_ = false;  // guarded by turn_
  std::vector<std::thread> helpers_;
};

}  // namespace kvfs::gpu
