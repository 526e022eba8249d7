// gpu_load_1block: a prefix of one block from the prompt to the engine's pages in device memory.
#include <vector>

#include "tools/benchmarks/benches.h"
#include "tools/benchmarks/data.h"
#include "tools/benchmarks/gpu_cache.h"
#include "tools/benchmarks/gpu_data.h"
#include "tools/benchmarks/gpu_peers.h"
#include "tools/benchmarks/handles.h"
#include "tools/benchmarks/timing.h"

namespace kvfs::bench {
namespace {

constexpr double kMost = 200;  // microseconds
constexpr std::uint64_t kPrefixes = 64;
constexpr int kPinned = 200;      // loads in a row that were too quick for any other way
constexpr double kPatience = 15;  // seconds

}  // namespace

Status bench_gpu_load_1block(const Target& target, const GpuOptions& options, const Emit& emit) {
  Result<GpuModel> model = find_gpu_model(options);
  if (!model) return pass(std::move(model));
  Result<std::unique_ptr<Gpu>> gpu = Gpu::open(options.device);
  if (!gpu) return pass(std::move(gpu));
  auto name_space = TempNamespace::create(target.mount, "bench-gpu-1block", model->geometry());
  if (!name_space) return pass(std::move(name_space));
  kvfs_client* client = (*name_space)->client();
  const GpuCache stored(**gpu, *model, 1);
  const GpuCache loaded(**gpu, *model, 1);
  const std::uint64_t bytes = model->rank_block_bytes();
  Result<std::unique_ptr<GpuPeers>> peers = GpuPeers::make(**gpu, *model, loaded, bytes);
  if (!peers) return pass(std::move(peers));
  Status filled = fill(**gpu, *model, stored, target.kv.get(), (*peers)->pinned().data());
  if (!filled) return filled;
  std::vector<std::vector<Token>> prompts;
  for (std::uint64_t i = 0; i < kPrefixes; ++i) {
    auto prompt = store_from_gpu(client, stored.pages(), 1, *model, i);
    if (!prompt) return pass(std::move(prompt));
    prompts.push_back(std::move(*prompt));
  }
  const kvfs_pages pages = loaded.pages();
  std::vector<double> lease_us, load_us, copy_us;
  // Slabs are pinned behind the first loads; until then a block is copied by the CPU first.
  const Stopwatch since;
  int quick_ones = 0;
  for (std::uint32_t i = 0; load_us.size() < (target.quick ? 500U : 3000U); ++i) {
    const Stopwatch loading;
    Result<LeasePtr> lease = acquire(client, prompts[i % kPrefixes]);
    if (!lease) return pass(std::move(lease));
    const double leased = loading.seconds();
    if (Status status = check(kvfs_load(lease->get(), 0, 0, 1, &pages, nullptr, nullptr)); !status)
      return status;
    const double seconds = loading.seconds();
    lease->reset();
    Result<double> limit = (*peers)->large_copy(GpuDirection::kLoad);
    if (!limit) return pass(std::move(limit));
    if (quick_ones < kPinned && since.seconds() < kPatience) {
      quick_ones = seconds - leased < 3 * *limit ? quick_ones + 1 : 0;
      continue;
    }
    lease_us.push_back(leased * 1e6);
    load_us.push_back(seconds * 1e6);
    copy_us.push_back(*limit * 1e6);
  }
  const double limit = median(copy_us);
  emit(cost_row(model->row("gpu_load_1block"), "us", median(load_us), limit, kMost));
  emit(cost_row(model->row("gpu_load_1block_p99"), "us", quantile(load_us, 0.99),
                quantile(copy_us, 0.99), 0));
  emit(cost_row(model->row("gpu_lease_1block"), "us", median(lease_us), limit, 0));
  return loads_same_numbers(**gpu, *model, loaded, stored, [&]() -> Result<double> {
    const Stopwatch watch;
    Result<LeasePtr> lease = acquire(client, prompts.front());
    if (!lease) return pass(std::move(lease));
    Status status = check(kvfs_load(lease->get(), 0, 0, 1, &pages, nullptr, nullptr));
    if (!status) return pass(std::move(status));
    return watch.seconds();
  });
}

}  // namespace kvfs::bench
