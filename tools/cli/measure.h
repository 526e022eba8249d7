// Short measurements of this machine for `plan` and `doctor`: seconds, not a benchmark.
#pragma once

#include <cstdint>
#include <string>

#include "lib/format/result.h"

namespace kvfs::cli {

// Memory to memory with `threads` threads, best of a few rounds; bytes per second.
double measure_memory(std::uint32_t threads);

struct DiskSpeed {
  double read = 0;  // bytes per second, O_DIRECT, 1 MiB requests, several at once
  double write = 0;
  double latency = 0;  // seconds, one 4 KiB read
};
// Writes and reads an unnamed file of `bytes` (rounded down to 1 MiB) in `directory`.
// kUnavailable: the file system has no O_DIRECT; kNotFound, kPermission, kIo.
Result<DiskSpeed> measure_disk(const std::string& directory, std::uint64_t bytes);

// Pinned host memory to the first GPU; kUnavailable where there is no driver or device.
struct GpuLink {
  std::string device;
  std::string driver;         // version of the driver's CUDA API, "13.0"
  double host_to_device = 0;  // bytes per second; 0 when not measured
};
Result<GpuLink> measure_gpu_link();
// The same without copying anything.
Result<GpuLink> find_gpu();

}  // namespace kvfs::cli
