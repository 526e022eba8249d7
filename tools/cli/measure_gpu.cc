// Talks to the NVIDIA driver's library directly, so that the same program runs where there is none.
#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>

#include "tools/cli/measure.h"

namespace kvfs::cli {
namespace {

using CuResult = int;  // 0: success
using CuDevice = int;
using CuContext = void*;
using CuPointer = unsigned long long;

// The few calls of the CUDA driver API (cuda.h) that are needed, under their exported names.
class CudaDriver {
 public:
  static Result<CudaDriver> load() {
    CudaDriver driver;
    driver.library_ = ::dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (driver.library_ == nullptr) {
      return fail(Code::kUnavailable, "no NVIDIA driver (libcuda.so.1) on this machine");
    }
    const bool complete = driver.find("cuInit", driver.init) &&
                          driver.find("cuDriverGetVersion", driver.version) &&
                          driver.find("cuDeviceGet", driver.device_get) &&
                          driver.find("cuDeviceGetName", driver.device_name) &&
                          driver.find("cuDevicePrimaryCtxRetain", driver.retain_context) &&
                          driver.find("cuDevicePrimaryCtxRelease_v2", driver.release_context) &&
                          driver.find("cuCtxSetCurrent", driver.set_context) &&
                          driver.find("cuMemAlloc_v2", driver.device_alloc) &&
                          driver.find("cuMemFree_v2", driver.device_free) &&
                          driver.find("cuMemHostAlloc", driver.host_alloc) &&
                          driver.find("cuMemFreeHost", driver.host_free) &&
                          driver.find("cuMemcpyHtoD_v2", driver.copy_to_device);
    if (!complete) return fail(Code::kUnavailable, "the NVIDIA driver here is too old to be asked");
    return driver;
  }

  CuResult (*init)(unsigned) = nullptr;
  CuResult (*version)(int*) = nullptr;
  CuResult (*device_get)(CuDevice*, int) = nullptr;
  CuResult (*device_name)(char*, int, CuDevice) = nullptr;
  CuResult (*retain_context)(CuContext*, CuDevice) = nullptr;
  CuResult (*release_context)(CuDevice) = nullptr;
  CuResult (*set_context)(CuContext) = nullptr;
  CuResult (*device_alloc)(CuPointer*, std::size_t) = nullptr;
  CuResult (*device_free)(CuPointer) = nullptr;
  CuResult (*host_alloc)(void**, std::size_t, unsigned) = nullptr;
  CuResult (*host_free)(void*) = nullptr;
  CuResult (*copy_to_device)(CuPointer, const void*, std::size_t) = nullptr;

 private:
  template <typename Function>
  bool find(const char* name, Function& function) const {
    function = reinterpret_cast<Function>(::dlsym(library_, name));
    return function != nullptr;
  }
  void* library_ = nullptr;  // stays loaded: drivers do not like to be unloaded
};

Result<GpuLink> describe(const CudaDriver& driver, CuDevice& device) {
  if (driver.init(0) != 0 || driver.device_get(&device, 0) != 0) {
    return fail(Code::kUnavailable, "the NVIDIA driver is there, but no GPU that it can use");
  }
  GpuLink link;
  std::array<char, 128> name{};
  int version = 0;
  driver.device_name(name.data(), static_cast<int>(name.size()) - 1, device);
  driver.version(&version);
  link.device = name.data();
  link.driver = fmt::format("{}.{}", version / 1000, version % 1000 / 10);
  return link;
}

double copy_speed(const CudaDriver& driver) {
  constexpr std::size_t kBytes = std::size_t{256} << 20;
  constexpr int kRounds = 4;
  CuPointer device = 0;
  void* host = nullptr;
  double best = 0;
  if (driver.device_alloc(&device, kBytes) == 0 && driver.host_alloc(&host, kBytes, 0) == 0) {
    for (int round = 0; round < kRounds; ++round) {
      const auto start = std::chrono::steady_clock::now();
      if (driver.copy_to_device(device, host, kBytes) != 0) break;
      const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
      best = std::max(best, static_cast<double>(kBytes) / elapsed.count());
    }
  }
  if (host != nullptr) driver.host_free(host);
  if (device != 0) driver.device_free(device);
  return best;
}

}  // namespace

Result<GpuLink> find_gpu() {
  Result<CudaDriver> driver = CudaDriver::load();
  if (!driver) return pass(std::move(driver));
  CuDevice device = 0;
  return describe(*driver, device);
}

Result<GpuLink> measure_gpu_link() {
  Result<CudaDriver> driver = CudaDriver::load();
  if (!driver) return pass(std::move(driver));
  CuDevice device = 0;
  Result<GpuLink> link = describe(*driver, device);
  if (!link) return link;
  CuContext context = nullptr;
  if (driver->retain_context(&context, device) != 0 || driver->set_context(context) != 0) {
    return fail(Code::kUnavailable,
                fmt::format("{} gives no context: is it in exclusive use?", link->device));
  }
  link->host_to_device = copy_speed(*driver);
  driver->release_context(device);
  if (link->host_to_device <= 0) {
    return fail(Code::kUnavailable,
                fmt::format("{} has no room for a test copy of 256 MiB", link->device));
  }
  return link;
}

}  // namespace kvfs::cli
