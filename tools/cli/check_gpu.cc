// doctor: the GPU and its driver.
#include <fmt/format.h>

#include "tools/cli/doctor.h"
#include "tools/cli/measure.h"

namespace kvfs::cli {

void check_gpu(Checks& checks) {
  Check check{.name = "gpu"};
  const Result<GpuLink> gpu = find_gpu();
  if (gpu) {
    check.found = fmt::format("{}, driver for CUDA {}", gpu->device, gpu->driver);
  } else {
    // A cache for CPU inference is a whole one.
    check.level = Level::kNote;
    check.found = gpu.error().message;
    check.remedy = "only needed to load into GPU memory: install NVIDIA's driver (libcuda.so.1)";
  }
  checks.push_back(check);
}

}  // namespace kvfs::cli
