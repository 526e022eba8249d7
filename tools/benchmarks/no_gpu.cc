// Instead of gpu*.cc and bench_gpu*.cc where the build has no CUDA.
#include "tools/benchmarks/benches.h"

namespace kvfs::bench {
namespace {

Status no_cuda() {
  return fail(Code::kUnavailable, "this build has no CUDA device: build it where nvcc is");
}

}  // namespace

Status bench_gpu_copies(const Target&, const GpuOptions&, const Emit&) { return no_cuda(); }
Status bench_gpu_load_1block(const Target&, const GpuOptions&, const Emit&) { return no_cuda(); }
Status bench_gpu_nvme(const Target&, const GpuOptions&, const Emit&) { return no_cuda(); }
Status bench_gpu_tier(const Target&, const GpuOptions&, const Emit&) { return no_cuda(); }

}  // namespace kvfs::bench
