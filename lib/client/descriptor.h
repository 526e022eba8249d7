// Descriptors of the mount, and what becomes of them in a forked child.
#pragma once

#include <cstdint>
#include <utility>

namespace kvfs::client {

// Grows by one in a child at every fork; an object made under another number belongs to a parent.
std::uint64_t fork_generation();
// Makes fork_generation() and Descriptor work; called by whatever opens a client.
void watch_forks();

// A descriptor that closes itself. A forked child closes its copies at once: a lease or a
// reservation is an open file description, which the child would otherwise hold for its parent.
// Threads: distinct objects from any thread.
// Owns:    the descriptor.
// Blocks:  closing asks the daemon (FLUSH).
// Errors:  errors of close(2) are of no use here and dropped.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd);
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~Descriptor() { reset(); }

  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool valid() const { return fd_ >= 0; }
  void reset();

 private:
  int fd_ = -1;
};

}  // namespace kvfs::client
