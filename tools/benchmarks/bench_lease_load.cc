// lease_load_1block: a 16-token prefix from the prompt to the engine's pages.
#include <cstring>
#include <vector>

#include "tools/benchmarks/benches.h"
#include "tools/benchmarks/copy_limit.h"
#include "tools/benchmarks/data.h"
#include "tools/benchmarks/handles.h"
#include "tools/benchmarks/timing.h"

namespace kvfs::bench {
namespace {

constexpr double kMost = 200;            // microseconds
constexpr std::uint32_t kPrefixes = 64;  // 128 MiB: beyond the caches

}  // namespace

Status bench_lease_load(const Target& target, const Emit& emit) {
  auto name_space = TempNamespace::create(target.mount, "bench-lease-load", llama_geometry());
  if (!name_space) return pass(std::move(name_space));
  kvfs_client* client = (*name_space)->client();
  const HugeBuffer source(kPrefixes * kLlamaBlockBytes);
  std::vector<std::vector<Token>> prompts;
  for (std::uint32_t i = 0; i < kPrefixes; ++i) {
    prompts.push_back(make_prompt(i, 1));
    auto key = store_copies(client, prompts.back(), {source.data(), kLlamaBlockBytes});
    if (!key) return pass(std::move(key));
  }
  const PagedCache cache(1);
  const kvfs_pages pages = cache.pages();
  CopyLimit limit(copy_threads());
  std::vector<double> load_us, copy_us;
  const std::uint32_t warm_up = 2 * kPrefixes;
  const std::uint32_t count = warm_up + (target.quick ? 500U : 3000U);
  for (std::uint32_t i = 0; i < count; ++i) {
    const Stopwatch loading;
    Result<LeasePtr> lease = acquire(client, prompts[i % kPrefixes]);
    if (!lease) return pass(std::move(lease));
    if (Status status = check(kvfs_load(lease->get(), 0, 0, 1, &pages, nullptr, nullptr)); !status)
      return status;
    const double loaded = loading.seconds();
    lease->reset();
    const Stopwatch copying;
    limit.copy(cache.data(), source.data() + (i % kPrefixes) * kLlamaBlockBytes, kLlamaBlockBytes);
    const double copied = copying.seconds();
    if (i < warm_up) continue;
    load_us.push_back(loaded * 1e6);
    copy_us.push_back(copied * 1e6);
  }
  emit(cost_row("lease_load_1block", "us", median(load_us), median(copy_us), kMost));
  return {};
}

}  // namespace kvfs::bench
