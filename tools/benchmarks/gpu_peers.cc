#include "tools/benchmarks/gpu_peers.h"

#include <string>
#include <utility>

#include "gpu/cuda_code.h"
#include "tools/benchmarks/timing.h"

namespace kvfs::bench {
namespace {

gpu::BlockShape raw_shape(const GpuModel& model) {
  gpu::BlockShape shape = model.rank_shape();
  shape.encoding = Encoding::kRaw;
  return shape;
}

}  // namespace

GpuPeers::GpuPeers(const Gpu& gpu, const GpuModel& model, const GpuCache& cache,
                   std::uint64_t bytes)
    : gpu_(gpu),
      cache_(cache),
      pinned_(gpu, bytes),
      pinned_back_(gpu, bytes),
      plain_(gpu, bytes),
      plain_back_(gpu, bytes),
      device_pieces_(cache.pieces()),
      sizes_(device_pieces_.size(), cache.piece_bytes()),
      shape_(raw_shape(model)),
      pages_(cache.device_pages()) {
  const auto host = reinterpret_cast<CUdeviceptr>(pinned_.data());
  for (std::size_t i = 0; i < device_pieces_.size(); ++i) {
    host_pieces_.push_back(host + i * cache.piece_bytes());
  }
  for (std::uint32_t i = 0; i < bytes / model.rank_block_bytes(); ++i) {
    blocks_.push_back({pinned_.data() + i * model.rank_block_bytes(), i});
    at_.push_back(host + i * model.rank_block_bytes());
  }
}

GpuPeers::~GpuPeers() {
  if (module_ != nullptr) gpu_.driver().module_unload(module_);
}

Result<std::unique_ptr<GpuPeers>> GpuPeers::make(const Gpu& gpu, const GpuModel& model,
                                                 const GpuCache& cache, std::uint64_t bytes) {
  std::unique_ptr<GpuPeers> made(new GpuPeers(gpu, model, cache, bytes));
  if (Status status = made->load_kernels(); !status) return pass(std::move(status));
  return made;
}

Status GpuPeers::load_kernels() {
  const gpu::CudaDriver& cuda = gpu_.driver();
  Status status = cuda.check(cuda.module_load(&module_, gpu::cuda_code()), "loading the kernels");
  for (const auto& [kernels, name] :
       {std::pair{&scatter_, "kvfs_scatter_"}, std::pair{&gather_, "kvfs_gather_"}}) {
    for (const auto& [function, width] :
         {std::pair{&kernels->by_16, "16"}, std::pair{&kernels->by_4, "4"},
          std::pair{&kernels->by_1, "1"}}) {
      if (!status) return status;
      status =
          cuda.check(cuda.module_function(function, module_, (std::string(name) + width).c_str()),
                     "finding a kernel");
    }
  }
  return status;
}

Status GpuPeers::begin_large(GpuDirection direction, std::size_t stream) {
  const gpu::CudaDriver& cuda = gpu_.driver();
  if (direction == GpuDirection::kLoad) {
    return cuda.check(
        cuda.copy_to_device(plain_.at(), pinned_.data(), pinned_.size(), gpu_.stream(stream)),
        "copying to the GPU");
  }
  return cuda.check(cuda.copy_to_host(pinned_back_.data(), plain_back_.at(), pinned_back_.size(),
                                      gpu_.stream(stream)),
                    "copying from the GPU");
}

Result<double> GpuPeers::large_copy(GpuDirection direction) {
  const Stopwatch watch;
  Status status = begin_large(direction, 0);
  if (status) status = gpu_.wait(0);
  if (!status) return pass(std::move(status));
  return watch.seconds();
}

Result<double> GpuPeers::two_large_copies() {
  const Stopwatch watch;
  Status status = begin_large(GpuDirection::kLoad, 0);
  if (status) status = begin_large(GpuDirection::kStore, 1);
  if (status) status = gpu_.wait(0);
  if (status) status = gpu_.wait(1);
  if (!status) return pass(std::move(status));
  return watch.seconds();
}

Result<double> GpuPeers::batch(GpuDirection direction) {
  const bool load = direction == GpuDirection::kLoad;
  const Stopwatch watch;
  Status status = load ? gpu_.copy_batch(device_pieces_, host_pieces_, sizes_)
                       : gpu_.copy_batch(host_pieces_, device_pieces_, sizes_);
  if (status) status = gpu_.wait(0);
  if (!status) return pass(std::move(status));
  return watch.seconds();
}

Result<double> GpuPeers::zero_copy(GpuDirection direction) {
  const bool load = direction == GpuDirection::kLoad;
  const Stopwatch watch;
  Status status =
      gpu::launch_moves(gpu_.driver(), load ? scatter_ : gather_, gpu_.stream(0), shape_, pages_,
                        {.blocks = blocks_, .first_head = 0, .heads = shape_.heads}, at_);
  if (status) status = gpu_.wait(0);
  if (!status) return pass(std::move(status));
  return watch.seconds();
}

}  // namespace kvfs::bench
