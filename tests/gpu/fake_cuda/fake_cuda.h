// The fake driver in a test's hands.
#pragma once

#include <string>
#include <vector>

#include "tests/gpu/fake_cuda/driver/state.h"

namespace kvfs::test {

// Loads it at the first call: from then on it is this process' libcuda.so.1.
FakeCuda& fake_cuda();
// The same with one that lacks functions. A process has one driver: in a child's.
void load_old_cuda();

// While it lives, these functions fail.
class CudaFailure {
 public:
  CudaFailure(std::vector<std::string> functions, CUresult result);
  ~CudaFailure();
  CudaFailure(const CudaFailure&) = delete;
  CudaFailure& operator=(const CudaFailure&) = delete;

 private:
  const std::vector<std::string> functions_;
};

}  // namespace kvfs::test
