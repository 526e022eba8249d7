#include "tests/gpu/subject.h"

#include <utility>

namespace kvfs::gpu::test {

Result<Subject> make_subject(const std::string& name) {
  if (name.starts_with("cpu-")) {
    const auto threads = static_cast<std::uint32_t>(std::stoul(name.substr(4)));
    return Subject{make_cpu_device(threads), Where::kHost};
  }
  const Where where = name == "cuda" ? Where::kCuda : Where::kSecondCuda;
  if (const char* why = no_cuda(where); why != nullptr) return fail(Code::kUnavailable, why);
  Result<std::unique_ptr<Device>> device = make_cuda_device(where == Where::kCuda ? 0 : 1);
  if (!device) return pass(std::move(device));
  return Subject{std::move(*device), where};
}

}  // namespace kvfs::gpu::test
