#include "gpu/cuda_driver.h"

#include <dlfcn.h>
#include <link.h>

#include <atomic>
#include <string>

#include "gpu/device.h"

namespace kvfs::gpu {
namespace {

constexpr const char* kLibrary = "libcuda.so.1";

Result<CudaDriver> load() {
  void* const library = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return fail(Code::kUnavailable,
                "there is no CUDA driver (libcuda.so.1) on this machine: "
                "install NVIDIA's driver");
  }
  CudaDriver driver;
#define KVFS_CUDA_LOAD(name, symbol)                                                            \
  driver.name = reinterpret_cast<decltype(driver.name)>(::dlsym(library, #symbol));             \
  if (driver.name == nullptr) {                                                                 \
    return fail(Code::kUnavailable, "the CUDA driver has no " #symbol ": install a newer one"); \
  }
  KVFS_CUDA_FUNCTIONS(KVFS_CUDA_LOAD)
#undef KVFS_CUDA_LOAD
  if (Status status = driver.check(driver.init(0), "starting CUDA"); !status) {
    return fail(Code::kUnavailable, status.error().message);
  }
  return driver;
}

// How many libraries this process has loaded so far.
unsigned long long libraries_loaded() {
  unsigned long long loaded = 0;
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* out) {
        *static_cast<unsigned long long*>(out) = info->dlpi_adds;
        return 1;
      },
      &loaded);
  return loaded;
}

// The driver if somebody has loaded it. A driver that is not there costs a search
// through the file system, so that is done only when another library has come.
void* loaded_driver() {
  static std::atomic<unsigned long long> without{0};  // libraries among which it was not
  const unsigned long long loaded = libraries_loaded();
  if (without.load(std::memory_order_relaxed) == loaded) return nullptr;
  void* const library = ::dlopen(kLibrary, RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) without.store(loaded, std::memory_order_relaxed);
  return library;
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

CudaContextScope::CudaContextScope(const CudaDriver& driver, CUcontext context) : driver_(driver) {
  driver_.context_push(context);
}

CudaContextScope::~CudaContextScope() {
  CUcontext was = nullptr;
  driver_.context_pop(&was);
}

int device_of(const void* pointer) {
  using Attribute = decltype(&::cuPointerGetAttribute);
  static std::atomic<Attribute> known{nullptr};
  Attribute attribute = known.load(std::memory_order_relaxed);
  if (attribute == nullptr) {
    // A process that never loaded the driver has no device memory: nothing is loaded to find that
    // out. Once loaded it stays.
    void* const library = loaded_driver();
    if (library == nullptr) return -1;
    attribute = reinterpret_cast<Attribute>(::dlsym(library, "cuPointerGetAttribute"));
    if (attribute == nullptr) return -1;
    known.store(attribute, std::memory_order_relaxed);
  }
  int ordinal = -1;
  unsigned int type = 0;
  const auto address = reinterpret_cast<CUdeviceptr>(pointer);
  if (attribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address) == CUDA_SUCCESS &&
      type == CU_MEMORYTYPE_DEVICE) {
    attribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address);
  }
  return ordinal;
}

}  // namespace kvfs::gpu
