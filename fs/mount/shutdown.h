// Shutdown: ends a served mount in order, from a thread of its own.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <thread>

#include "fs/mount/file_system.h"

namespace kvfs::mount {

// To be called first of all, before any thread is started.
void block_ending_signals();

// SIGTERM, SIGINT and control requests ask; the first to ask starts it. While requests are still
// served: write-back, then no more notifications; then the session ends.
//
// Threads: request() from any.
// Owns:    its thread.
// Blocks:  finish(), for the thread.
// Errors:  a write-back that does not end in time is logged; what was not written stays in DRAM.
class Shutdown {
 public:
  Shutdown() = default;
  ~Shutdown() { finish(); }
  Shutdown(const Shutdown&) = delete;
  Shutdown& operator=(const Shutdown&) = delete;

  // `last_steps` runs once, on the thread.
  void start(std::function<void()> last_steps);
  void request(ShutdownRequest request);
  // The session is over: waits for the last steps where they have begun, else there will be none.
  void finish();
  // What the last request that said so asked for.
  [[nodiscard]] std::optional<bool> drop_dram() const { return drop_dram_.load(); }

 private:
  void run();
  std::function<void()> last_steps_;
  std::atomic<std::optional<bool>> drop_dram_{};
  std::atomic<bool> ended_{false};         // the session is over: nothing to be done any more
  std::atomic<bool> running_over_{false};  // the thread needs no signal any more
  std::thread thread_;
};

}  // namespace kvfs::mount
