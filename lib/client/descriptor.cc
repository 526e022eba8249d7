#include "lib/client/descriptor.h"

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <unordered_set>

namespace kvfs::client {
namespace {

std::atomic<std::uint64_t> generation{0};

// Never destroyed: descriptors may be closed by destructors that run later.
struct Registry {
  std::mutex mutex;
  std::unordered_set<int> descriptors;
};
Registry& registry() {
  static Registry* const instance = new Registry;
  return *instance;
}

void before_fork() { registry().mutex.lock(); }
void in_parent() { registry().mutex.unlock(); }
void in_child() {
  generation.fetch_add(1, std::memory_order_relaxed);
  for (const int fd : registry().descriptors) ::close(fd);
  registry().descriptors.clear();
  registry().mutex.unlock();
}

}  // namespace

std::uint64_t fork_generation() { return generation.load(std::memory_order_relaxed); }

void watch_forks() {
  static const int watching = [] {
    registry();
    return ::pthread_atfork(before_fork, in_parent, in_child);
  }();
  static_cast<void>(watching);  // ENOMEM only: then a child's calls are not told apart
}

Descriptor::Descriptor(int fd) : fd_(fd) {
  if (fd_ < 0) return;
  const std::lock_guard lock(registry().mutex);
  registry().descriptors.insert(fd_);
}

void Descriptor::reset() {
  if (fd_ < 0) return;
  const int fd = std::exchange(fd_, -1);
  {
    const std::lock_guard lock(registry().mutex);
    // Not there: this is a child's copy of a parent's object, and closed.
    if (registry().descriptors.erase(fd) == 0) return;
  }
  ::close(fd);
}

}  // namespace kvfs::client
