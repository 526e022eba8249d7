#include "tests/gpu/engine_memory.h"

#include <cstring>
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
  return fail(Code::kUnavailable, "device memory");
}

}  // namespace kvfs::gpu::test
