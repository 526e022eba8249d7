// Deadlines: a point in time, or never.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>

namespace kvfs::client {

class Deadline {
 public:
  using Clock = std::chrono::steady_clock;

  // milliseconds from now; negative: never.
  static Deadline after_ms(std::int32_t milliseconds) {
    if (milliseconds < 0) return Deadline(Clock::time_point::max());
    return Deadline(Clock::now() + std::chrono::milliseconds(milliseconds));
  }
  [[nodiscard]] bool never() const { return at_ == Clock::time_point::max(); }
  [[nodiscard]] bool passed() const { return !never() && Clock::now() >= at_; }
  [[nodiscard]] Clock::time_point at() const { return at_; }
  // Rounded up, so that a wait of that long reaches the deadline.
  [[nodiscard]] std::uint32_t remaining_ms() const {
    constexpr std::int64_t kLongest = std::numeric_limits<std::int32_t>::max();
    if (never()) return static_cast<std::uint32_t>(kLongest);
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(at_ - Clock::now()).count();
    return static_cast<std::uint32_t>(std::clamp<std::int64_t>(left, 0, kLongest));
  }

 private:
  explicit Deadline(Clock::time_point at) : at_(at) {}
  Clock::time_point at_;
};

}  // namespace kvfs::client
