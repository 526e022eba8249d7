// memcpy with several threads: the most a copy in host memory can reach.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace kvfs::bench {

// Threads that wait between copies, so that starting them is not measured.
// Threads: copy() from one. Owns: its threads. Blocks: copy() until all is copied. Errors: none.
class CopyLimit {
 public:
  explicit CopyLimit(std::uint32_t threads);
  ~CopyLimit();
  CopyLimit(const CopyLimit&) = delete;
  CopyLimit& operator=(const CopyLimit&) = delete;
  void copy(std::byte* to, const std::byte* from, std::size_t bytes);

 private:
  void work(std::uint32_t index);
  void copy_share(std::uint32_t index) const;

  std::uint32_t threads_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t round_ = 0;    // guarded by mutex_
  std::uint32_t pending_ = 0;  // guarded by mutex_
  bool stopping_ = false;      // guarded by mutex_
  std::byte* to_ = nullptr;
  const std::byte* from_ = nullptr;
  std::size_t bytes_ = 0;
  std::vector<std::jthread> workers_;
};

// What the client uses by default.
std::uint32_t copy_threads();

}  // namespace kvfs::bench
