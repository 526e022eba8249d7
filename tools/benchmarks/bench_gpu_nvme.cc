// gpu_nvme: from the NVMe tier through DRAM into an engine's pages in device memory, against fio.
#include "tools/benchmarks/benches.h"
#include "tools/benchmarks/data.h"
#include "tools/benchmarks/fio.h"
#include "tools/benchmarks/gpu_cache.h"
#include "tools/benchmarks/gpu_data.h"
#include "tools/benchmarks/gpu_peers.h"
#include "tools/benchmarks/handles.h"
#include "tools/benchmarks/timing.h"

namespace kvfs::bench {
namespace {

constexpr double kLeastRatio = 0.95;
constexpr std::uint64_t kBytes = std::uint64_t{1} << 30;

}  // namespace

Status bench_gpu_nvme(const Target& target, const GpuOptions& options, const Emit& emit) {
  Result<GpuModel> model = find_gpu_model(options);
  if (!model) return pass(std::move(model));
  Result<std::unique_ptr<Gpu>> gpu = Gpu::open(options.device);
  if (!gpu) return pass(std::move(gpu));
  auto name_space = TempNamespace::create(target.mount, "bench-gpu-nvme", model->geometry());
  if (!name_space) return pass(std::move(name_space));
  kvfs_client* client = (*name_space)->client();
  // Whole blocks come from the disk, whatever a rank takes of them.
  const auto blocks = static_cast<std::uint32_t>(kBytes / model->block_bytes());
  const std::uint64_t bytes = blocks * model->block_bytes();
  const GpuCache stored(**gpu, *model, blocks);
  const GpuCache loaded(**gpu, *model, blocks);
  {
    const PinnedBuffer pinned(**gpu, stored.size());
    Status status = fill(**gpu, *model, stored, target.kv.get(), pinned.data());
    if (!status) return status;
  }
  auto prompt = store_from_gpu(client, stored.pages(), blocks, *model);
  if (!prompt) return pass(std::move(prompt));
  if (Status status = flush(**name_space); !status) return status;
  Result<Fio> fio = Fio::prepare(target.nvme_directory, bytes, Direction::kRead);
  if (!fio) return pass(std::move(fio));
  const kvfs_pages pages = loaded.pages();
  const auto load = [&]() -> Result<double> {
    if (Status status = evict_from_dram(**name_space, bytes); !status)
      return pass(std::move(status));
    const Stopwatch watch;
    Result<LeasePtr> lease = acquire(client, *prompt);
    if (!lease) return pass(std::move(lease));
    Status status = check(kvfs_load(lease->get(), 0, 0, blocks, &pages, nullptr, nullptr));
    if (!status) return pass(std::move(status));
    return watch.seconds();
  };
  auto rounds = fio->run_beside(target.quick ? 3 : 7, load);
  if (!rounds) return pass(std::move(rounds));
  emit(speed_row(model->row("gpu_nvme"), "GB/s", std::move(rounds->plain), kLeastRatio));
  emit(speed_row(model->row("gpu_nvme_kept"), "GB/s", std::move(rounds->keeping), kLeastRatio));
  return loads_same_numbers(**gpu, *model, loaded, stored, load);
}

}  // namespace kvfs::bench
