// What an engine does with CUDA's driver itself.
#pragma once

#include <dlfcn.h>

#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>

namespace kvfs::gpu::test {

template <typename Function>
Function cuda_function(const char* name) {
  void* const found = ::dlsym(::dlopen("libcuda.so.1", RTLD_NOW), name);
  if (found == nullptr) throw std::runtime_error(std::string("the driver has no ") + name);
  return reinterpret_cast<Function>(found);
}

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

}  // namespace kvfs::gpu::test
