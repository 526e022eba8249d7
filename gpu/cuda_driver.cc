#include "gpu/cuda_driver.h"

#include <dlfcn.h>

#include <string>

namespace kvfs::gpu {
namespace {

constexpr const char* kLibrary = "libcuda.so.1";

// As cuda.h and the driver number them.
std::string version_text(int version) {
  return "CUDA " + std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

Result<CudaDriver> too_old(const CudaDriver& driver, const std::string& lacks) {
  return fail(Code::kUnavailable, "the CUDA driver has no " + lacks + ": " + driver.versions() +
                                      ": install a newer driver");
}

Result<CudaDriver> load() {
  void* const library = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return fail(Code::kUnavailable,
                "there is no CUDA driver (libcuda.so.1) on this machine: "
                "install NVIDIA's driver");
  }
  CudaDriver driver;
#define KVFS_CUDA_LOAD(name, symbol)                                                \
  driver.name = reinterpret_cast<decltype(driver.name)>(::dlsym(library, #symbol)); \
  if (driver.name == nullptr) return too_old(driver, #symbol);
  KVFS_CUDA_FUNCTIONS(KVFS_CUDA_LOAD)
#undef KVFS_CUDA_LOAD
  if (Status status = driver.check(driver.init(0), "starting CUDA"); !status) {
    return fail(Code::kUnavailable, status.error().message);
  }
  return driver;
}

}  // namespace

Result<const CudaDriver*> CudaDriver::get() {
  static const Result<CudaDriver> driver = load();
  if (!driver) return tl::unexpected<Error>(driver.error());
  return &*driver;
}

Status CudaDriver::check(CUresult result, std::string_view what) const {
  if (result == CUDA_SUCCESS) return {};
  const char* name = nullptr;
  if (error_name(result, &name) != CUDA_SUCCESS || name == nullptr) name = "an unknown CUDA error";
  return fail(Code::kIo, std::string(what) + ": " + name);
}

void CudaDriver::finish(CUstream stream) const {
  // The result changes nothing: a stream that cannot be waited for is one of a context that has
  // failed, where nothing runs any more.
  static_cast<void>(stream_synchronize(stream));
}

std::string CudaDriver::versions() const {
  int of_driver = 0;
  const bool known = version != nullptr && version(&of_driver) == CUDA_SUCCESS;
  return "the driver is of " + (known ? version_text(of_driver) : "an unknown version of CUDA") +
         ", kvfs was built with " + version_text(CUDA_VERSION);
}

CudaContextScope::CudaContextScope(const CudaDriver& driver, CUcontext context) : driver_(driver) {
  driver_.context_push(context);
  driver_.capture_mode(&mode_);
}

CudaContextScope::~CudaContextScope() {
  driver_.capture_mode(&mode_);
  CUcontext was = nullptr;
  driver_.context_pop(&was);
}

}  // namespace kvfs::gpu
