// What a test says to the fake driver, and asks it.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <functional>
#include <map>
#include <mutex>
#include <string>

namespace kvfs::test {

// Exported as fake_cuda by the libcuda.so.1 of this folder. Two GPUs, whose memory is the host's
// and whose streams do at once what they are given.
struct FakeCuda {
  struct Memory {
    std::size_t bytes;
    int device;
  };
  std::mutex mutex;  // of all below
  int version = CUDA_VERSION;
  // By their exported names; those that fail answer this and do nothing.
  std::map<std::string, CUresult, std::less<>> failing;
  std::map<std::string, int, std::less<>> calls;
  std::map<CUdeviceptr, Memory> device_memory;
  std::map<const void*, std::size_t> host_memory;  // allocated by the driver
  std::map<const void*, int> pinned;  // somebody else's, by the device in whose context it was
  int holders[2] = {};                // of each device's primary context
};

}  // namespace kvfs::test
