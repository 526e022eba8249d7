// cpu_load, cpu_store: between DRAM slabs and an engine's paged cache in host memory, against
// memcpy of as many bytes with as many threads.
#include <vector>

#include "tools/benchmarks/benches.h"
#include "tools/benchmarks/copy_limit.h"
#include "tools/benchmarks/data.h"
#include "tools/benchmarks/handles.h"
#include "tools/benchmarks/timing.h"

namespace kvfs::bench {
namespace {

constexpr double kLeastRatio = 0.9;
constexpr std::uint32_t kBlocks = 64;  // 128 MiB
constexpr std::uint64_t kBytes = kBlocks * kLlamaBlockBytes;
constexpr int kWarmUp = 4;

double gigabytes_per_second(std::uint64_t bytes, double seconds) {
  return static_cast<double>(bytes) / seconds / 1e9;
}

// Calls `measure` (seconds of one transfer) and memcpy in turn.
template <typename Measure>
Status compare(const std::string& row, const Target& target, Measure measure, const Emit& emit) {
  const HugeBuffer from(kBytes);
  const HugeBuffer to(kBytes);
  CopyLimit limit(copy_threads());
  std::vector<Round> rounds;
  const int count = target.quick ? 9 : 25;
  for (int i = -kWarmUp; i < count; ++i) {
    Result<double> seconds = measure(i + kWarmUp);
    if (!seconds) return pass(std::move(seconds));
    const Stopwatch watch;
    limit.copy(to.data(), from.data(), kBytes);
    const double copied = watch.seconds();
    if (i >= 0)
      rounds.push_back(
          {gigabytes_per_second(kBytes, *seconds), gigabytes_per_second(kBytes, copied)});
  }
  emit(speed_row(row, "GB/s", std::move(rounds), kLeastRatio));
  return {};
}

}  // namespace

Status bench_cpu_load(const Target& target, const Emit& emit) {
  auto name_space = TempNamespace::create(target.mount, "bench-cpu-load", llama_geometry());
  if (!name_space) return pass(std::move(name_space));
  kvfs_client* client = (*name_space)->client();
  const PagedCache cache(kBlocks);
  const kvfs_pages pages = cache.pages();
  const std::vector<Token> prompt = make_prompt(0, kBlocks);
  if (auto key = store_copies(client, prompt, {cache.data(), kLlamaBlockBytes}); !key)
    return pass(std::move(key));
  const auto load = [&](int) -> Result<double> {
    const Stopwatch watch;
    Result<LeasePtr> lease = acquire(client, prompt);
    if (!lease) return pass(std::move(lease));
    Status loaded = check(kvfs_load(lease->get(), 0, 0, kBlocks, &pages, nullptr, nullptr));
    if (!loaded) return pass(std::move(loaded));
    return watch.seconds();
  };
  return compare("cpu_load", target, load, emit);
}

Status bench_cpu_store(const Target& target, const Emit& emit) {
  auto name_space = TempNamespace::create(target.mount, "bench-cpu-store", llama_geometry());
  if (!name_space) return pass(std::move(name_space));
  kvfs_client* client = (*name_space)->client();
  const PagedCache cache(kBlocks);
  const kvfs_pages pages = cache.pages();
  const auto store = [&](int round) -> Result<double> {
    const std::vector<Token> prompt = make_prompt(static_cast<std::uint64_t>(round), kBlocks);
    const Stopwatch watch;
    Result<ReservationPtr> reservation = reserve(client, prompt);
    if (!reservation) return pass(std::move(reservation));
    Status stored = check(kvfs_store(reservation->get(), 0, 0, kBlocks, &pages, nullptr, nullptr));
    if (!stored) return pass(std::move(stored));
    kvfs_commit_result result{};
    if (Status status = check(kvfs_commit(reservation->get(), 0, &result)); !status)
      return pass(std::move(status));
    const double seconds = watch.seconds();
    reservation->reset();
    if (Status status = evict_prefix(**name_space, result.key); !status)
      return pass(std::move(status));
    return seconds;
  };
  return compare("cpu_store", target, store, emit);
}

}  // namespace kvfs::bench
