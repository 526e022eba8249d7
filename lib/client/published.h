// Published<T>: one value that many threads read without a lock and one replaces now and then.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace kvfs::client {

// A reader announces itself in one of a few counters, each on a cache line of its own, and looks at
// the pointer after that. A replaced value is kept until every counter was seen at zero at some
// moment after the replacement: whoever came later sees the new pointer.
//
// Threads: read() from any thread; publish() and reclaim() one at a time.
// Owns:    the current value and the replaced ones that may still be read.
// Blocks:  never.
// Errors:  none.
template <typename T>
class Published {
  struct alignas(64) Counter {
    std::atomic<std::uint32_t> readers{0};
  };
  static constexpr std::size_t kCounters = 16;

 public:
  class Guard {
   public:
    Guard(Guard&&) = delete;
    ~Guard() { counter_.readers.fetch_sub(1, std::memory_order_release); }
    const T* operator->() const { return value_; }
    const T& operator*() const { return *value_; }
    explicit operator bool() const { return value_ != nullptr; }

   private:
    friend Published;
    Guard(Counter& counter, const std::atomic<const T*>& current) : counter_(counter) {
      counter_.readers.fetch_add(1, std::memory_order_seq_cst);
      value_ = current.load(std::memory_order_seq_cst);
    }
    Counter& counter_;
    const T* value_;
  };

  Published() = default;
  Published(const Published&) = delete;
  Published& operator=(const Published&) = delete;

  [[nodiscard]] Guard read() const { return Guard(counters_[counter_of_thread()], current_); }

  void publish(std::unique_ptr<const T> value) {
    current_.store(value.get(), std::memory_order_seq_cst);
    if (owner_) retired_.push_back({std::move(owner_), 0});
    owner_ = std::move(value);
    reclaim();
  }

  // Frees what no reader can see any more.
  void reclaim() {
    std::erase_if(retired_, [this](Retired& retired) {
      for (std::size_t i = 0; i < kCounters; ++i) {
        if (counters_[i].readers.load(std::memory_order_seq_cst) == 0)
          retired.seen_empty |= 1U << i;
      }
      return retired.seen_empty == (1U << kCounters) - 1;
    });
  }

 private:
  struct Retired {
    std::unique_ptr<const T> value;
    std::uint32_t seen_empty;  // bit i: counter i was zero after the replacement
  };

  static std::size_t counter_of_thread() {
    static std::atomic<std::size_t> next{0};
    thread_local const std::size_t mine = next.fetch_add(1, std::memory_order_relaxed) % kCounters;
    return mine;
  }

  mutable std::array<Counter, kCounters> counters_;
  std::atomic<const T*> current_{nullptr};
  std::unique_ptr<const T> owner_;
  std::vector<Retired> retired_;
};

}  // namespace kvfs::client
