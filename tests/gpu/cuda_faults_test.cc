// What a GPU that fails does to copies: an error that names it, or the slower path; never a hang.
#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/gpu/subject.h"

namespace kvfs::gpu::test {
namespace {

using namespace std::chrono_literals;

template <typename Function>
Function cuda_function(const char* name) {
  void* const found = ::dlsym(::dlopen("libcuda.so.1", RTLD_NOW), name);
  if (found == nullptr) throw std::runtime_error(std::string("the driver has no ") + name);
  return reinterpret_cast<Function>(found);
}

// Leaves the GPU next to no memory while it lives.
class AllMemory {
 public:
  AllMemory() {
    for (std::size_t bytes = std::size_t{8} << 30; bytes >= kLeft; bytes /= 2) take(bytes);
  }

 private:
  static constexpr std::size_t kLeft = std::size_t{2} << 20;
  void take(std::size_t bytes) {
    try {
      while (true) taken_.push_back(allocate(Where::kCuda, bytes));
    } catch (const std::runtime_error&) {  // there is no piece of that size any more
    }
  }
  std::vector<std::unique_ptr<EngineMemory>> taken_;
};

// Host memory that the engine itself has pinned: the driver refuses to pin it once more.
class PinnedByEngine {
 public:
  explicit PinnedByEngine(std::span<std::byte> memory) : memory_(memory) {
    const int result = cuda_function<int (*)(void*, std::size_t, unsigned)>("cuMemHostRegister_v2")(
        memory.data(), memory.size(), 0);
    if (result != 0) throw std::runtime_error("pinning: CUDA error " + std::to_string(result));
  }
  ~PinnedByEngine() { cuda_function<int (*)(void*)>("cuMemHostUnregister")(memory_.data()); }
  PinnedByEngine(const PinnedByEngine&) = delete;
  PinnedByEngine& operator=(const PinnedByEngine&) = delete;

 private:
  const std::span<std::byte> memory_;
};

// An engine's kernel that ends the context it runs in, as a wrong address does.
void begin_crash(const EngineStream& stream) {
  constexpr const char* kCode =
      ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry crash() { trap; }\n";
  void* module = nullptr;
  void* kernel = nullptr;
  int result = cuda_function<int (*)(void**, const void*)>("cuModuleLoadData")(&module, kCode);
  if (result == 0) {
    result = cuda_function<int (*)(void**, void*, const char*)>("cuModuleGetFunction")(
        &kernel, module, "crash");
  }
  if (result == 0) {
    using Launch = int (*)(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                           unsigned, void*, void**, void**);
    result = cuda_function<Launch>("cuLaunchKernel")(kernel, 1, 1, 1, 1, 1, 1, 0, stream.handle(),
                                                     nullptr, nullptr);
  }
  if (result != 0) throw std::runtime_error("crashing: CUDA error " + std::to_string(result));
}

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

class CudaFaults : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (const char* why = no_cuda(); why != nullptr) GTEST_SKIP() << why;
  }
  static Subject subject() {
    Result<Subject> made = make_subject(GetParam());
    if (!made) throw std::runtime_error(made.error().message);
    return std::move(*made);
  }
};

TEST_P(CudaFaults, NoDeviceMemoryLeftIsSaidAndPasses) {
  const Subject device = subject();
  Prefix prefix(device, 40);
  {
    const AllMemory taken;
    const Status status = prefix.begin_load().get();
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, Code::kIo);
    EXPECT_THAT(status.error().message, ::testing::HasSubstr("device memory"));
    EXPECT_THAT(status.error().message, ::testing::HasSubstr("CUDA_ERROR_OUT_OF_MEMORY"));
  }
  const Status status = prefix.begin_load().get();
  ASSERT_TRUE(status) << status.error().message;
  EXPECT_TRUE(prefix.is_loaded());
}

TEST_P(CudaFaults, MemoryThatCannotBePinnedGoesTheSlowerWay) {
  const Subject device = subject();
  Prefix prefix(device, 40);
  {
    const PinnedByEngine pinned(prefix.memory());
    device.device->register_memory(prefix.memory(), prefix.memory().size(), true);
    for (int i = 0; i < 5; ++i) {
      const Status status = prefix.begin_load().get();
      ASSERT_TRUE(status) << status.error().message;
    }
    EXPECT_TRUE(prefix.is_loaded());
    device.device->unregister_memory(prefix.memory());
  }
}

// In a process of its own: no use of the GPU comes back from it. Exit status 0: all as it should
// be.
[[noreturn]] void lose_the_device(Subject lost) {
  const auto fail = [](const char* what) {
    std::fprintf(stderr, "%s\n", what);
    std::_Exit(1);
  };
  {
    const Subject device = std::move(lost);
    Prefix prefix(device, 40);
    if (!prefix.begin_load().get()) fail("the device did not work before");
    const EngineStream stream;
    std::vector<std::future<Status>> under_way;
    for (int i = 0; i < 4; ++i) under_way.push_back(prefix.begin_load());
    begin_crash(stream);
    for (int i = 0; i < 4; ++i) under_way.push_back(prefix.begin_load());
    for (const std::future<Status>& load : under_way) {
      if (load.wait_for(20s) != std::future_status::ready) fail("a load hangs");
    }
    std::future<Status> after = prefix.begin_load();
    if (after.wait_for(20s) != std::future_status::ready) fail("a load afterwards hangs");
    const Status status = after.get();
    if (status || status.error().code != Code::kIo) fail("a load afterwards is no I/O error");
    std::fprintf(stderr, "afterwards: %s\n", status.error().message.c_str());
  }
  std::_Exit(0);
}

TEST_P(CudaFaults, ALostDeviceIsAnErrorForAllTransfers) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(lose_the_device(subject()), ::testing::ExitedWithCode(0),
              "afterwards: .*CUDA_ERROR_");
}

INSTANTIATE_TEST_SUITE_P(Devices, CudaFaults, ::testing::Values("cuda"),
                         [](const auto& device) { return std::string(device.param); });

}  // namespace
}  // namespace kvfs::gpu::test
