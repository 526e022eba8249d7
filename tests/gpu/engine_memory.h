// An engine's memory on the device under test, filled and read from the host.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <span>
#include <vector>

namespace kvfs::gpu::test {

class EngineMemory {
 public:
  virtual ~EngineMemory() = default;
  [[nodiscard]] virtual std::byte* base() = 0;
  virtual void upload(std::span<const std::byte> bytes) = 0;
  virtual void download(std::span<std::byte> bytes) = 0;
};

// A CUDA stream of an engine's.
class EngineStream {
 public:
  EngineStream();
  ~EngineStream() { destroy(); }
  EngineStream(const EngineStream&) = delete;
  EngineStream& operator=(const EngineStream&) = delete;
  [[nodiscard]] void* handle() const { return handle_; }
  // What comes after waits as long.
  void sleep(std::chrono::milliseconds time);
  void wait_for(std::shared_future<void> moment);                      // that never fails
  void copy(std::byte* to, const std::byte* from, std::size_t bytes);  // device to device
  void fill(std::byte* to, unsigned char value, std::size_t bytes);
  void wait();
  void destroy();
  // Ends the context that the stream is in, as an engine's kernel with a wrong address does. No use
  // of the GPU comes back to this process from it.
  void crash();
  // What the stream is given in between becomes a graph, as by torch.cuda.graph.
  void begin_capture();
  int end_capture();  // CUDA's result

 private:
  void call(std::function<void()> function);  // by the host, when it is its turn
  void* handle_ = nullptr;
};

// Where an engine's memory can be: in host memory, on the first GPU, on the second.
enum class Where : std::uint8_t { kHost, kCuda, kSecondCuda };
std::unique_ptr<EngineMemory> allocate(Where where, std::size_t bytes);
// nullptr, or why there is no such CUDA device.
const char* no_cuda(Where where = Where::kCuda);

}  // namespace kvfs::gpu::test
