// Blocks in host memory and an engine's cache for them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <future>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "tests/gpu/subject.h"

namespace kvfs::gpu::test {

// Blocks of 1 MiB in host memory and an engine's strided cache for them, which then holds the very
// same bytes.
class Prefix {
 public:
  Prefix(const Subject& subject, std::uint32_t blocks)
      : device_(*subject.device),
        raw_(blocks * kShape.bytes() + kAlignment),
        engine_(allocate(subject.where, blocks * kShape.bytes())),
        pages_(std::make_shared<Pages>()) {
    for (std::size_t i = 0; i < raw_.size(); ++i) raw_[i] = static_cast<std::byte>(i % 251);
    const auto past = reinterpret_cast<std::uintptr_t>(raw_.data()) % kAlignment;
    memory_ = std::span(raw_).subspan(kAlignment - past, blocks * kShape.bytes());
    for (std::uint32_t i = 0; i < blocks; ++i) at_.push_back({&memory_[i * kShape.bytes()], i});
    pages_->layers = {engine_->base()};
    pages_->head_count = kShape.heads;
    pages_->token_stride = std::int64_t{kShape.head_dim} * kShape.element_bytes;
  }
  [[nodiscard]] std::span<std::byte> memory() const { return memory_; }

  std::future<Status> begin_load() {
    auto loaded = std::make_shared<std::promise<Status>>();
    device_.scatter(kShape, at_, pages_, nullptr,
                    [loaded](Status status) { loaded->set_value(std::move(status)); });
    return loaded->get_future();
  }
  [[nodiscard]] bool is_loaded() {
    std::vector<std::byte> found(memory_.size());
    engine_->download(found);
    return std::ranges::equal(found, memory_);
  }

 private:
  static constexpr BlockShape kShape{
      .heads = 1, .layers = 1, .kv_factor = 1, .tokens = 16, .head_dim = 32768, .element_bytes = 2};
  static constexpr std::size_t kAlignment = 4096;
  Device& device_;
  std::vector<std::byte> raw_;
  std::span<std::byte> memory_;
  std::unique_ptr<EngineMemory> engine_;
  std::vector<BlockAt> at_;
  std::shared_ptr<Pages> pages_;
};

}  // namespace kvfs::gpu::test
