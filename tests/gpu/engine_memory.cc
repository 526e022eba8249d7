#include "tests/gpu/engine_memory.h"

#include <dlfcn.h>

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>
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
  int (*stream_create)(void** stream, unsigned flags);
  int (*stream_destroy)(void* stream);
  int (*stream_synchronize)(void* stream);
  int (*call_host)(void* stream, void (*function)(void*), void* argument);
  int (*copy)(std::uint64_t to, std::uint64_t from, std::size_t bytes, void* stream);
  int (*fill)(std::uint64_t to, unsigned char value, std::size_t bytes, void* stream);
  int (*begin_capture)(void* stream, int mode);
  int (*end_capture)(void* stream, void** graph);
  int (*graph_destroy)(void* graph);
  int (*module_load)(void** module, const void* code);
  int (*module_function)(void** function, void* module, const char* name);
  int (*launch)(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                unsigned block_y, unsigned block_z, unsigned shared_bytes, void* stream,
                void** arguments, void** extra);
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
    find(library, found.stream_create, "cuStreamCreate");
    find(library, found.stream_destroy, "cuStreamDestroy_v2");
    find(library, found.stream_synchronize, "cuStreamSynchronize");
    find(library, found.call_host, "cuLaunchHostFunc");
    find(library, found.copy, "cuMemcpyDtoDAsync_v2");
    find(library, found.fill, "cuMemsetD8Async");
    find(library, found.begin_capture, "cuStreamBeginCapture_v2");
    find(library, found.end_capture, "cuStreamEndCapture");
    find(library, found.graph_destroy, "cuGraphDestroy");
    find(library, found.module_load, "cuModuleLoadData");
    find(library, found.module_function, "cuModuleGetFunction");
    find(library, found.launch, "cuLaunchKernel");
    return found;
  }();
  return instance;
}

void expect(int result) {
  if (result != 0) throw std::runtime_error("CUDA error " + std::to_string(result));
}

void enter_context(int device) {
  void* context = nullptr;
  expect(driver().primary_context(&context, device));
  expect(driver().set_current(context));
}

class CudaMemory final : public EngineMemory {
 public:
  CudaMemory(int device, std::size_t bytes) : device_(device) {
    enter_context(device_);
    expect(driver().allocate(&pointer_, bytes));
  }
  ~CudaMemory() override {
    enter_context(device_);
    driver().free(pointer_);
  }
  CudaMemory(const CudaMemory&) = delete;
  CudaMemory& operator=(const CudaMemory&) = delete;
  std::byte* base() override { return reinterpret_cast<std::byte*>(pointer_); }
  void upload(std::span<const std::byte> bytes) override {
    enter_context(device_);
    expect(driver().to_device(pointer_, bytes.data(), bytes.size()));
    // From pageable memory the call may return before the bytes are there, and the streams of a
    // device under test do not wait for this one.
    expect(driver().stream_synchronize(nullptr));
  }
  void download(std::span<std::byte> bytes) override {
    enter_context(device_);
    expect(driver().to_host(bytes.data(), pointer_, bytes.size()));
  }

 private:
  const int device_;
  std::uint64_t pointer_ = 0;
};

}  // namespace

EngineStream::EngineStream() {
  enter_context(0);
  constexpr unsigned kNonBlocking = 1;
  expect(driver().stream_create(&handle_, kNonBlocking));
}

void EngineStream::call(std::function<void()> function) {
  using Function = std::function<void()>;
  auto* const argument = new Function(std::move(function));
  expect(driver().call_host(
      handle_,
      [](void* given) {
        const std::unique_ptr<Function> wanted(static_cast<Function*>(given));
        (*wanted)();
      },
      argument));
}

void EngineStream::sleep(std::chrono::milliseconds time) {
  call([time] { std::this_thread::sleep_for(time); });
}

void EngineStream::wait_for(std::shared_future<void> moment) {
  call([moment = std::move(moment)] { moment.wait(); });
}

void EngineStream::copy(std::byte* to, const std::byte* from, std::size_t bytes) {
  expect(driver().copy(reinterpret_cast<std::uint64_t>(to), reinterpret_cast<std::uint64_t>(from),
                       bytes, handle_));
}

void EngineStream::fill(std::byte* to, unsigned char value, std::size_t bytes) {
  expect(driver().fill(reinterpret_cast<std::uint64_t>(to), value, bytes, handle_));
}

void EngineStream::wait() { expect(driver().stream_synchronize(handle_)); }

void EngineStream::destroy() {
  if (handle_ != nullptr) driver().stream_destroy(std::exchange(handle_, nullptr));
}

void EngineStream::crash() {
  constexpr const char* kCode =
      ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry crash() { trap; }\n";
  void* module = nullptr;
  void* kernel = nullptr;
  expect(driver().module_load(&module, kCode));
  expect(driver().module_function(&kernel, module, "crash"));
  expect(driver().launch(kernel, 1, 1, 1, 1, 1, 1, 0, handle_, nullptr, nullptr));
}

void EngineStream::begin_capture() {
  constexpr int kGlobal = 0;  // the usual mode
  expect(driver().begin_capture(handle_, kGlobal));
}

int EngineStream::end_capture() {
  void* graph = nullptr;
  const int result = driver().end_capture(handle_, &graph);
  if (graph != nullptr) driver().graph_destroy(graph);
  return result;
}

std::unique_ptr<EngineMemory> allocate(Where where, std::size_t bytes) {
  if (where == Where::kHost) return std::make_unique<HostMemory>(bytes);
  return std::make_unique<CudaMemory>(where == Where::kCuda ? 0 : 1, bytes);
}

const char* no_cuda(Where where) {
  void* const library = ::dlopen("libcuda.so.1", RTLD_NOW);
  if (library == nullptr) return "there is no CUDA driver";
  int (*init)(unsigned) = nullptr;
  find(library, init, "cuInit");
  if (init(0) != 0) return "there is no GPU that the CUDA driver can use";
  int (*get_count)(int*) = nullptr;
  find(library, get_count, "cuDeviceGetCount");
  int count = 0;
  expect(get_count(&count));
  return where == Where::kSecondCuda && count < 2 ? "there is no second GPU" : nullptr;
}

}  // namespace kvfs::gpu::test
