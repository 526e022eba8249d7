// A BlockTier that passes everything on to a real one and goes wrong on demand.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "fs/tiers/block_tier.h"

namespace kvfs::test {

// Faults are set between operations or while they run. Reads and writes are counted from the call
// that sets the fault: 1 is the next one.
//
// Threads: all calls from any thread; completions run on a thread of this tier's own.
// Owns:    the real tier. Destroyed, it thaws and delivers what it holds.
class FaultTier final : public tiers::BlockTier {
 public:
  explicit FaultTier(std::unique_ptr<tiers::BlockTier> inner)
      : inner_(std::move(inner)), thread_([this] { deliver(); }) {}
  ~FaultTier() override {
    {
      const std::lock_guard lock(mutex_);
      frozen_ = false;
      delay_ = {};
    }
    inner_.reset();  // its completions arrive here first
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  void fail_read(std::uint64_t nth, Code code) { set(reads_, nth, {.fail = code}); }
  void fail_write(std::uint64_t nth, Code code) { set(writes_, nth, {.fail = code}); }
  // The read succeeds, but bit `bit` of what it brought is wrong.
  void flip_bit(std::uint64_t nth, std::uint64_t bit) { set(reads_, nth, {.flip = bit}); }
  // Every read and write from now on, until called with nothing.
  void fail_all(std::optional<Code> code) {
    const std::lock_guard lock(mutex_);
    fail_all_ = code;
  }
  void fail_sync(std::optional<Code> code) {
    const std::lock_guard lock(mutex_);
    fail_sync_ = code;
  }
  // The next sync is this instead.
  void at_next_sync(std::function<Status()> instead) {
    const std::lock_guard lock(mutex_);
    next_sync_ = std::move(instead);
  }
  void no_space(bool full) {
    const std::lock_guard lock(mutex_);
    full_ = full;
  }
  // Completions arrive this much later.
  void delay(std::chrono::milliseconds by) {
    const std::lock_guard lock(mutex_);
    delay_ = by;
  }
  // No completion arrives until thaw().
  void freeze() {
    const std::lock_guard lock(mutex_);
    frozen_ = true;
  }
  void thaw() {
    {
      const std::lock_guard lock(mutex_);
      frozen_ = false;
    }
    changed_.notify_all();
  }
  // Operations whose completion is being held.
  [[nodiscard]] std::size_t held() const {
    const std::lock_guard lock(mutex_);
    return held_.size();
  }
  [[nodiscard]] std::uint64_t reads() const { return count(reads_); }
  [[nodiscard]] std::uint64_t writes() const { return count(writes_); }

  Result<tiers::TierSlot> allocate(std::uint64_t slot_bytes) override {
    {
      const std::lock_guard lock(mutex_);
      if (full_) return fail(Code::kNoSpace, "the tier is full (injected)");
    }
    return inner_->allocate(slot_bytes);
  }
  void free(tiers::TierSlot slot) override { inner_->free(slot); }
  Status claim(tiers::TierSlot slot, std::uint64_t slot_bytes) override {
    return inner_->claim(slot, slot_bytes);
  }
  void write(tiers::TierSlot slot, std::span<const std::byte> bytes, tiers::IoDone done) override {
    const Fault fault = next(writes_);
    if (fault.fail) return hold(injected(*fault.fail, "write"), std::move(done));
    inner_->write(slot, bytes, [this, done = std::move(done)](Status status) mutable {
      hold(std::move(status), std::move(done));
    });
  }
  void read(tiers::TierSlot slot, std::span<std::byte> bytes, tiers::IoDone done) override {
    const Fault fault = next(reads_);
    if (fault.fail) return hold(injected(*fault.fail, "read"), std::move(done));
    inner_->read(slot, bytes, [this, bytes, fault, done = std::move(done)](Status status) mutable {
      if (fault.flip) bytes[*fault.flip / 8 % bytes.size()] ^= std::byte{1} << *fault.flip % 8;
      hold(std::move(status), std::move(done));
    });
  }
  Status sync() override {
    std::function<Status()> instead;
    {
      const std::lock_guard lock(mutex_);
      if (fail_sync_) return injected(*fail_sync_, "sync");
      instead = std::exchange(next_sync_, nullptr);
    }
    return instead ? instead() : inner_->sync();
  }
  void register_memory(std::span<std::byte> memory) override { inner_->register_memory(memory); }
  void unregister_memory(std::span<std::byte> memory) override {
    inner_->unregister_memory(memory);
  }
  [[nodiscard]] tiers::TierUsage usage() const override { return inner_->usage(); }

 private:
  using Clock = std::chrono::steady_clock;
  struct Fault {
    std::optional<Code> fail;
    std::optional<std::uint64_t> flip;
  };
  struct Operations {
    std::uint64_t count = 0;
    std::map<std::uint64_t, Fault> faults;  // by number
  };
  struct Held {
    Clock::time_point due;
    Status status;
    tiers::IoDone done;
  };

  static Status injected(Code code, std::string_view what) {
    return fail(code, std::string(what) + " failed (injected)");
  }
  void set(Operations& operations, std::uint64_t nth, Fault fault) {
    const std::lock_guard lock(mutex_);
    operations.faults[operations.count + nth] = fault;
  }
  Fault next(Operations& operations) {
    const std::lock_guard lock(mutex_);
    const auto node = operations.faults.extract(++operations.count);
    if (!node.empty()) return node.mapped();
    return {.fail = fail_all_};
  }
  [[nodiscard]] std::uint64_t count(const Operations& operations) const {
    const std::lock_guard lock(mutex_);
    return operations.count;
  }
  void hold(Status status, tiers::IoDone done) {
    {
      const std::lock_guard lock(mutex_);
      held_.push_back({Clock::now() + delay_, std::move(status), std::move(done)});
    }
    changed_.notify_all();
  }
  void deliver() {
    std::unique_lock lock(mutex_);
    while (true) {
      if (held_.empty()) {
        if (stopping_) return;
        changed_.wait(lock);
      } else if (frozen_) {
        changed_.wait(lock);
      } else if (const auto due = held_.front().due; !stopping_ && due > Clock::now()) {
        changed_.wait_until(lock, due);
      } else {
        Held held = std::move(held_.front());
        held_.pop_front();
        lock.unlock();
        held.done(std::move(held.status));
        lock.lock();
      }
    }
  }

  std::unique_ptr<tiers::BlockTier> inner_;
  mutable std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  Operations reads_, writes_;
  std::optional<Code> fail_all_, fail_sync_;
  std::function<Status()> next_sync_;
  std::chrono::milliseconds delay_{0};
  bool full_ = false, frozen_ = false, stopping_ = false;
  std::deque<Held> held_;
  std::thread thread_;
};

}  // namespace kvfs::test
