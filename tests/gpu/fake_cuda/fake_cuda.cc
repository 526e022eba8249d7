#include "tests/gpu/fake_cuda/fake_cuda.h"

#include <dlfcn.h>

#include <stdexcept>
#include <utility>

namespace kvfs::test {
namespace {

void* open_driver(const char* path) {
  void* const library = ::dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw std::runtime_error(::dlerror());
  if (::dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD) != library) {
    throw std::runtime_error("this process has another CUDA driver already");
  }
  return library;
}

}  // namespace

FakeCuda& fake_cuda() {
  static void* const found = ::dlsym(open_driver(KVFS_FAKE_CUDA), "fake_cuda");
  return *static_cast<FakeCuda*>(found);
}

void load_old_cuda() { open_driver(KVFS_OLD_CUDA); }

CudaFailure::CudaFailure(std::vector<std::string> functions, CUresult result)
    : functions_(std::move(functions)) {
  const std::lock_guard lock(fake_cuda().mutex);
  for (const std::string& function : functions_) fake_cuda().failing[function] = result;
}

CudaFailure::~CudaFailure() {
  const std::lock_guard lock(fake_cuda().mutex);
  for (const std::string& function : functions_) fake_cuda().failing.erase(function);
}

}  // namespace kvfs::test
