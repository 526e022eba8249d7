#include "tests/gpu/engine_memory.h"

#include <dlfcn.h>

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

namespace kvfs::gpu::test {
namespace {

class HostMemory final : public EngineMemory {
 public:
  explicit HostMemory(std::size_t bytes) : raw_(bytes + 64) {}
  std::byte* base() override {
    return raw_.data() + (64 - reinterpret_cast<std::uintptr_t>(raw_.data()) % 64) % 64;
  }
  void upload(std::span<const std::byte> bytes) override {
    std::memcpy(base(), bytes.data(), bytes.size());
  }
  void download(std::span<std::byte> bytes) override {
    std::memcpy(bytes.data(), base(), bytes.size());
  }

 private:
  std::vector<std::byte> raw_;
};

// The few functions of the CUDA driver that a test needs, without CUDA's headers.
struct Driver {
  int (*primary_context)(void** context, int device);
  int (*set_current)(void* context);
  int (*allocate)(std::uint64_t* pointer, std::size_t bytes);
  int (*free)(std::uint64_t pointer);
  int (*to_device)(std::uint64_t to, const void* from, std::size_t bytes);
  int (*to_host)(void* to, std::uint64_t from, std::size_t bytes);
};

template <typename F>
void find(void* library, F& function, const char* name) {
  function = reinterpret_cast<F>(::dlsym(library, name));
}

const Driver& driver() {
  static const Driver instance = [] {
    Driver found{};
    void* const library = ::dlopen("libcuda.so.1", RTLD_NOW);
    find(library, found.primary_context, "cuDevicePrimaryCtxRetain");
    find(library, found.set_current, "cuCtxSetCurrent");
    find(library, found.allocate, "cuMemAlloc_v2");
    find(library, found.free, "cuMemFree_v2");
    find(library, found.to_device, "cuMemcpyHtoD_v2");
    find(library, found.to_host, "cuMemcpyDtoH_v2");
    return found;
  }();
  return instance;
}

class CudaMemory final : public EngineMemory {
 public:
  explicit CudaMemory(std::size_t bytes) {
    void* context = nullptr;
    expect(driver().primary_context(&context, 0));
    expect(driver().set_current(context));
    expect(driver().allocate(&pointer_, bytes));
  }
  ~CudaMemory() override { driver().free(pointer_); }
  CudaMemory(const CudaMemory&) = delete;
  CudaMemory& operator=(const CudaMemory&) = delete;
  std::byte* base() override { return reinterpret_cast<std::byte*>(pointer_); }
  void upload(std::span<const std::byte> bytes) override {
    expect(driver().to_device(pointer_, bytes.data(), bytes.size()));
  }
  void download(std::span<std::byte> bytes) override {
    expect(driver().to_host(bytes.data(), pointer_, bytes.size()));
  }

 private:
  static void expect(int result) {
    if (result != 0) throw std::runtime_error("CUDA error " + std::to_string(result));
  }
  std::uint64_t pointer_ = 0;
};

}  // namespace

Result<Subject> make_subject(const std::string& name) {
  if (name.starts_with("cpu-")) {
    const auto threads = static_cast<std::uint32_t>(std::stoul(name.substr(4)));
    return Subject{make_cpu_device(threads),
                   [](std::size_t bytes) -> std::unique_ptr<EngineMemory> {
                     return std::make_unique<HostMemory>(bytes);
                   }};
  }
  Result<std::unique_ptr<Device>> device = make_cuda_device(0);
  if (!device) return pass(std::move(device));
  return Subject{std::move(*device), [](std::size_t bytes) -> std::unique_ptr<EngineMemory> {
                   return std::make_unique<CudaMemory>(bytes);
                 }};
}

}  // namespace kvfs::gpu::test
