// Which device a pointer belongs to, asked of a driver that somebody else has loaded; also in a
// build without CUDA, so that GPU memory is refused there instead of being taken for the host's.
#include <dlfcn.h>
#include <link.h>

#include <atomic>
#include <cstdint>
#include <string>

#include "gpu/device.h"

namespace kvfs::gpu {
namespace {

// Of the CUDA driver's interface (cuda.h), which such a build does not have.
using PointerAttribute = int (*)(void* answer, int attribute, std::uint64_t pointer);
constexpr int kMemoryType = 2;     // CU_POINTER_ATTRIBUTE_MEMORY_TYPE
constexpr int kDeviceOrdinal = 9;  // CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
constexpr unsigned kOnDevice = 2;  // CU_MEMORYTYPE_DEVICE
constexpr int kSuccess = 0;        // CUDA_SUCCESS
// CUDA_ERROR_ILLEGAL_ADDRESS and its like: a kernel has ended its context, and a driver may answer
// this whatever it is asked from then on. And those of a device that has gone: unavailable, memory
// that cannot be corrected, unknown.
constexpr bool is_of_lost_device(int result) {
  return result / 100 == 7 || result == 46 || result == 214 || result == 999;
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
  void* const library = ::dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) without.store(loaded, std::memory_order_relaxed);
  return library;
}

}  // namespace

Result<int> device_of(const void* pointer) {
  static std::atomic<PointerAttribute> known{nullptr};
  PointerAttribute attribute = known.load(std::memory_order_relaxed);
  if (attribute == nullptr) {
    // A process that never loaded the driver has no device memory: nothing is loaded to find that
    // out. Once loaded it stays.
    void* const library = loaded_driver();
    if (library == nullptr) return -1;
    attribute = reinterpret_cast<PointerAttribute>(::dlsym(library, "cuPointerGetAttribute"));
    if (attribute == nullptr) return -1;
    known.store(attribute, std::memory_order_relaxed);
  }
  int ordinal = -1;
  unsigned type = 0;
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  const int result = attribute(&type, kMemoryType, address);
  const bool on_device = result == kSuccess && type == kOnDevice;
  const int told = on_device ? attribute(&ordinal, kDeviceOrdinal, address) : kSuccess;
  if (is_of_lost_device(result) || told != kSuccess) {
    return fail(Code::kIo, "the CUDA driver does not say whose memory the engine's is (error " +
                               std::to_string(told != kSuccess ? told : result) +
                               "): a kernel has failed in this process, or the device is lost");
  }
  return ordinal;
}

}  // namespace kvfs::gpu
