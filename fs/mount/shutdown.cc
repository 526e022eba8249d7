#include "fs/mount/shutdown.h"

#include <pthread.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <csignal>

namespace kvfs::mount {
namespace {

sigset_t ending_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGHUP);
  return signals;
}

}  // namespace

void block_ending_signals() {
  const sigset_t signals = ending_signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

void Shutdown::finish() {
  if (!thread_.joinable()) return;
  ended_ = true;
  // Wakes it; in a thread that is past its wait the signal stays pending, and goes with it.
  // NOLINTNEXTLINE(bugprone-bad-signal-to-kill-thread): it is blocked, and waited for.
  if (!running_over_.load()) pthread_kill(thread_.native_handle(), SIGTERM);
  thread_.join();
}

void Shutdown::start(std::function<void()> last_steps) {
  last_steps_ = std::move(last_steps);
  thread_ = std::thread([this] { run(); });
}

void Shutdown::request(ShutdownRequest request) {
  if (request.drop_dram) drop_dram_ = request.drop_dram;
  ::kill(::getpid(), SIGTERM);
}

void Shutdown::run() {
  pthread_setname_np(pthread_self(), "kvfs-shutdown");
  const sigset_t signals = ending_signals();
  int signal = 0;
  sigwait(&signals, &signal);
  if (!ended_) last_steps_();
  running_over_ = true;
}

}  // namespace kvfs::mount
