#include "tools/benchmarks/cleanup.h"

#include <pthread.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <thread>

namespace kvfs::bench {

Cleanup& Cleanup::instance() {
  static auto* cleanup = new Cleanup;  // never destroyed: the signal thread uses it
  return *cleanup;
}

Cleanup::Cleanup() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&signals, signal);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::thread([this, signals] {
    int signal = 0;
    while (::sigwait(&signals, &signal) != 0) {
    }
    // For good: a thread that meets the end of what it measured waits here for this one's status.
    const std::lock_guard lock(mutex_);
    run_registered();
    ::_exit(128 + signal);
  }).detach();
}

Cleanup::Token Cleanup::add(std::function<void()> function) {
  const std::lock_guard lock(mutex_);
  functions_.emplace_back(next_, std::move(function));
  return next_++;
}

// The lock is held while they run: a signal in the middle of a clean end waits for it.
void Cleanup::run(Token token) {
  const std::lock_guard lock(mutex_);
  for (auto at = functions_.begin(); at != functions_.end(); ++at) {
    if (at->first != token) continue;
    at->second();
    functions_.erase(at);
    return;
  }
}

void Cleanup::run_all() {
  const std::lock_guard lock(mutex_);
  run_registered();
}

void Cleanup::run_registered() {
  for (; !functions_.empty(); functions_.pop_back()) functions_.back().second();
}

TempDirectory::TempDirectory(const std::string& parent) : path_(parent + "/kvfs-bench-XXXXXX") {
  if (::mkdtemp(path_.data()) == nullptr) {
    throw std::system_error(errno, std::generic_category(), "no temporary directory in " + parent);
  }
  token_ = Cleanup::instance().add([path = path_] {
    std::error_code error;
    std::filesystem::remove_all(path, error);
    if (error)
      std::fprintf(stderr, "kvfs-bench: %s stays: %s\n", path.c_str(), error.message().c_str());
  });
}

TempDirectory::~TempDirectory() { Cleanup::instance().run(token_); }

}  // namespace kvfs::bench
