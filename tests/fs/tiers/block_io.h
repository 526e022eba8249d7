// Memory and completions for tests of tiers.
#pragma once

#include <sys/mman.h>

#include <condition_variable>
#include <cstring>
#include <mutex>
#include <new>
#include <span>

#include "fs/tiers/block_tier.h"

namespace kvfs::test {

// Page-aligned, zeroed memory that can be filled with a pattern nothing else has.
class Memory {
 public:
  explicit Memory(std::size_t bytes) {
    void* memory =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    bytes_ = {static_cast<std::byte*>(memory), bytes};
  }
  ~Memory() { ::munmap(bytes_.data(), bytes_.size()); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  [[nodiscard]] std::span<std::byte> all() const { return bytes_; }
  [[nodiscard]] std::span<std::byte> at(std::size_t offset, std::size_t bytes) const {
    return bytes_.subspan(offset, bytes);
  }
  void fill(std::size_t offset, std::size_t bytes, std::uint64_t seed) {
    for (std::size_t i = 0; i < bytes; i += sizeof(std::uint64_t)) {
      const std::uint64_t word = pattern(seed, i);
      std::memcpy(bytes_.data() + offset + i, &word, sizeof(word));
    }
  }
  [[nodiscard]] bool holds(std::size_t offset, std::size_t bytes, std::uint64_t seed) const {
    for (std::size_t i = 0; i < bytes; i += sizeof(std::uint64_t)) {
      const std::uint64_t word = pattern(seed, i);
      if (std::memcmp(bytes_.data() + offset + i, &word, sizeof(word)) != 0) return false;
    }
    return true;
  }

 private:
  // The multiplier spreads neighbouring inputs over all bits.
  static std::uint64_t pattern(std::uint64_t seed, std::uint64_t at) {
    return (seed * 0x100000001b3U + at + 1) * 0x9e3779b97f4a7c15U;
  }
  std::span<std::byte> bytes_;
};

// Waits for the `done` of any number of operations; keeps the first error.
class Completions {
 public:
  tiers::IoDone expect() {
    const std::lock_guard lock(mutex_);
    ++left_;
    return [this](Status status) {
      const std::lock_guard guard(mutex_);
      if (!status && first_) first_ = std::move(status);
      if (--left_ == 0) none_left_.notify_all();
    };
  }
  Status wait_all() {
    std::unique_lock lock(mutex_);
    none_left_.wait(lock, [this] { return left_ == 0; });
    return first_;
  }
  [[nodiscard]] int left() {
    const std::lock_guard lock(mutex_);
    return left_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable none_left_;
  int left_ = 0;
  Status first_;
};

inline Status wait_write(tiers::BlockTier& tier, tiers::TierSlot slot,
                         std::span<const std::byte> bytes) {
  Completions one;
  tier.write(slot, bytes, one.expect());
  return one.wait_all();
}
inline Status wait_read(tiers::BlockTier& tier, tiers::TierSlot slot, std::span<std::byte> bytes) {
  Completions one;
  tier.read(slot, bytes, one.expect());
  return one.wait_all();
}

}  // namespace kvfs::test
