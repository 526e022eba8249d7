// gpu_tier: from the GPU tier into an engine's pages, against a copy of as many bytes within the
// device.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "tools/benchmarks/benches.h"
#include "tools/benchmarks/gpu_cache.h"
#include "tools/benchmarks/gpu_data.h"
#include "tools/benchmarks/handles.h"
#include "tools/benchmarks/timing.h"
#include "tools/cli/stats_file.h"

namespace kvfs::bench {
namespace {

constexpr double kLeastRatio = 0.85;
constexpr double kPatience = 60;  // seconds
constexpr int kBurst = 5;

// Seconds that one large copy within the device takes.
Result<double> device_copy(const Gpu& gpu, const DeviceBuffer& to, const GpuCache& from) {
  const Stopwatch watch;
  Status status = gpu.driver().check(
      gpu.driver().copy_on_device(to.at(), from.at(), from.size(), gpu.stream(0)),
      "copying within the GPU");
  if (status) status = gpu.wait(0);
  if (!status) return pass(std::move(status));
  return watch.seconds();
}

Result<double> load(kvfs_lease* lease, std::uint32_t blocks, const GpuCache& to) {
  const kvfs_pages pages = to.pages();
  const Stopwatch watch;
  Status status = check(kvfs_load(lease, 0, 0, blocks, &pages, nullptr, nullptr));
  if (!status) return pass(std::move(status));
  return watch.seconds();
}

// Leases the prefix until all of it is in the tier.
Status heat(const TempNamespace& name_space, const std::vector<Token>& prompt,
            std::uint32_t blocks) {
  const Stopwatch patience;
  while (patience.seconds() < kPatience) {
    Result<LeasePtr> lease = acquire(name_space.client(), prompt);
    if (!lease) return pass(std::move(lease));
    lease->reset();
    Result<nlohmann::json> stats = cli::read_namespace_stats(name_space.mount(), name_space.name());
    if (!stats) return pass(std::move(stats));
    if ((*stats)["tiers"]["gpu"]["blocks"] == blocks) return {};
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return fail(Code::kUnavailable, "the prefix did not come into the GPU tier");
}

Status measure(const Gpu& gpu, const GpuModel& model, const TempNamespace& name_space,
               std::uint64_t size, bool first, const Target& target, const Emit& emit) {
  const auto blocks = static_cast<std::uint32_t>(size / model.rank_block_bytes());
  const GpuCache stored(gpu, model, blocks);
  const GpuCache loaded(gpu, model, blocks);
  const DeviceBuffer copied(gpu, loaded.size());
  {
    const PinnedBuffer pinned(gpu, stored.size());
    Status status = fill(gpu, model, stored, target.kv.get(), pinned.data());
    if (!status) return status;
  }
  auto prompt = store_from_gpu(name_space.client(), stored.pages(), blocks, model, size);
  if (!prompt) return pass(std::move(prompt));
  if (Status status = heat(name_space, *prompt, blocks); !status) return status;
  Result<LeasePtr> lease = acquire(name_space.client(), *prompt);
  if (!lease) return pass(std::move(lease));
  std::vector<Round> rounds;
  const auto bytes = static_cast<double>(loaded.size());
  for (int i = -2; i < (target.quick ? 5 : 15); ++i) {
    std::vector<double> loads, copies;
    for (int j = 0; j < kBurst; ++j) {
      Result<double> seconds = load(lease->get(), blocks, loaded);
      if (!seconds) return pass(std::move(seconds));
      loads.push_back(*seconds);
    }
    for (int j = 0; j < kBurst; ++j) {
      Result<double> seconds = device_copy(gpu, copied, loaded);
      if (!seconds) return pass(std::move(seconds));
      copies.push_back(*seconds);
    }
    if (i >= 0) rounds.push_back({bytes / median(loads) / 1e9, bytes / median(copies) / 1e9});
  }
  const std::string suffix = first ? "" : fmt::format("_{}mib", size >> 20);
  emit(speed_row(model.row("gpu_tier") + suffix, "GB/s", std::move(rounds),
                 model.raw() ? kLeastRatio : 0));
  Status compared = loads_same_numbers(gpu, model, loaded, stored,
                                       [&] { return load(lease->get(), blocks, loaded); });
  if (!compared) return compared;
  lease->reset();
  kvfs_match_result match{};
  const kvfs_prompt asked{prompt->data(), prompt->size(), nullptr, 0};
  if (Status status = check(kvfs_match(name_space.client(), &asked, &match)); !status) {
    return status;
  }
  return evict_prefix(name_space, match.key);
}

}  // namespace

Status bench_gpu_tier(const Target& target, const GpuOptions& options, const Emit& emit) {
  Result<GpuModel> model = find_gpu_model(options);
  if (!model) return pass(std::move(model));
  Result<std::unique_ptr<Gpu>> gpu = Gpu::open(options.device);
  if (!gpu) return pass(std::move(gpu));
  auto name_space = TempNamespace::create(target.mount, "bench-gpu-tier", model->geometry());
  if (!name_space) return pass(std::move(name_space));
  bool first = true;
  // The largest first: it has the plain name.
  std::vector<std::uint64_t> sizes = options.sizes;
  std::ranges::sort(sizes, std::ranges::greater{});
  for (const std::uint64_t size : sizes) {
    Status status = measure(**gpu, *model, **name_space, std::max(size, model->rank_block_bytes()),
                            first, target, emit);
    if (!status) return status;
    first = false;
  }
  return {};
}

}  // namespace kvfs::bench
