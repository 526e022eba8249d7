// A SharedMemoryPool of host memory that runs short or fails on demand.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>

#include "gpu/shared_memory.h"

namespace kvfs::test {

// Threads: all calls from any thread.
// Owns:    the host's pool.
// Blocks:  never.
// Errors:  kIo from everything once `lost` is set; kNoSpace when more than `spare` is asked for.
class FaultPool final : public gpu::SharedMemoryPool {
 public:
  // Outlives the pool, which a store owns.
  struct Device {
    std::atomic<std::uint64_t> spare{std::uint64_t{1} << 40};  // what nobody has
    std::atomic<std::uint64_t> pieces{0};                      // that are there
    std::atomic<std::uint32_t> write_ms{0};                    // that a write takes
    std::atomic<bool> lost{false};
  };
  explicit FaultPool(std::shared_ptr<Device> device) : device_(std::move(device)) {}

  Result<std::unique_ptr<gpu::SharedMemory>> allocate(std::uint64_t bytes) override {
    if (device_->lost) return fail(Code::kIo, "the device is lost");
    if (device_->spare < bytes) return fail(Code::kNoSpace, "the device has no memory left");
    auto piece = inner_->allocate(bytes);
    if (!piece) return piece;
    device_->spare -= bytes;
    return std::make_unique<Piece>(device_, std::move(*piece));
  }
  Result<std::uint64_t> available() override {
    if (device_->lost) return fail(Code::kIo, "the device is lost");
    return device_->spare.load();
  }

 private:
  class Piece final : public gpu::SharedMemory {
   public:
    Piece(std::shared_ptr<Device> device, std::unique_ptr<gpu::SharedMemory> inner)
        : device_(std::move(device)), inner_(std::move(inner)) {
      ++device_->pieces;
    }
    ~Piece() override {
      device_->spare += inner_->handle().bytes;
      --device_->pieces;
    }
    Piece(const Piece&) = delete;
    Piece& operator=(const Piece&) = delete;
    [[nodiscard]] const gpu::SharedHandle& handle() const override { return inner_->handle(); }
    Status write(std::uint64_t offset, std::span<const std::byte> bytes) override {
      if (device_->lost) return fail(Code::kIo, "the device is lost");
      std::this_thread::sleep_for(std::chrono::milliseconds(device_->write_ms));
      return inner_->write(offset, bytes);
    }

   private:
    const std::shared_ptr<Device> device_;
    const std::unique_ptr<gpu::SharedMemory> inner_;
  };
  const std::shared_ptr<Device> device_;
  const std::unique_ptr<gpu::SharedMemoryPool> inner_ = gpu::make_host_pool();
};

}  // namespace kvfs::test
