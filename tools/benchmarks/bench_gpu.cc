// gpu_load, gpu_store, gpu_both: between DRAM slabs and an engine's paged cache in device memory,
// against one large pinned copy (two for gpu_both), and what engines use today.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <string>
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

constexpr double kLeastRatio = 0.96;
// Of the link's own speed.
constexpr double kLeastPacked = 1.3;
constexpr double kLeastQuantized = 1.9;
constexpr double kLeastBoth = 0.9;
constexpr double kRegistrationPatience = 60;  // seconds
constexpr std::uint32_t kLayerStep = 8, kEncodedLayerStep = 11;

using Measure = std::function<Result<double>()>;

struct Named {
  std::string row;
  Measure seconds;
  double target;
};

double least_ratio(const GpuModel& model) {
  if (model.quantized()) return kLeastQuantized;
  return model.raw() ? kLeastRatio : kLeastPacked;
}

std::string size_suffix(std::uint64_t bytes) {
  const std::uint64_t mib = bytes >> 20;
  if (mib == 0) return fmt::format("_{}kib", bytes >> 10);
  return mib % 1024 == 0 ? fmt::format("_{}gib", mib / 1024) : fmt::format("_{}mib", mib);
}

// One size: a stored prefix, a cache for loads and one for stores.
// Threads: one.
// Owns:    the caches and the prefix's lease.
// Blocks:  every measurement.
// Errors:  those of the library and of the driver.
class Sized {
 public:
  Sized(const Gpu& gpu, const TempNamespace& name_space, const GpuModel& model, std::uint64_t bytes)
      : gpu_(gpu),
        name_space_(name_space),
        blocks_(static_cast<std::uint32_t>(bytes / model.rank_block_bytes())),
        bytes_(blocks_ * model.rank_block_bytes()),
        loaded_(gpu, model, blocks_),
        stored_(gpu, model, blocks_) {}

  Status prepare(const GpuModel& model, const RealKv* kv) {
    Result<std::unique_ptr<GpuPeers>> peers = GpuPeers::make(gpu_, model, loaded_, bytes_);
    if (!peers) return pass(std::move(peers));
    peers_ = std::move(*peers);
    Status status = fill(gpu_, model, stored_, kv, peers_->pinned().data());
    if (!status) return status;
    Result<std::vector<Token>> prompt =
        store_from_gpu(name_space_.client(), stored_.pages(), blocks_, model);
    if (!prompt) return pass(std::move(prompt));
    Result<LeasePtr> lease = acquire(name_space_.client(), *prompt);
    if (!lease) return pass(std::move(lease));
    lease_ = std::move(*lease);
    block_tokens_ = model.block_tokens;
    return until_registered();
  }

  // So many layers at a time; 0: all together.
  Result<double> load(std::uint32_t layer_step = 0) {
    const kvfs_pages pages = loaded_.pages();
    kvfs_transfer_options options{};
    options.size = sizeof(options);
    options.layer_step = layer_step;
    const Stopwatch watch;
    Status status = check(kvfs_load(lease_.get(), 0, 0, blocks_, &pages, &options, nullptr));
    if (!status) return pass(std::move(status));
    return watch.seconds();
  }

  // What such a load brings is what was stored.
  Status compare(const GpuModel& model, std::uint32_t layer_step) {
    return loads_same_numbers(gpu_, model, loaded_, stored_, [&] { return load(layer_step); });
  }

  // The copy out of the engine; what comes before and after it is a few messages to the daemon.
  Result<double> store() {
    return with_reservation([&](kvfs_reservation* reservation) -> Result<double> {
      const kvfs_pages pages = stored_.pages();
      const Stopwatch watch;
      Status status = check(kvfs_store(reservation, 0, 0, blocks_, &pages, nullptr, nullptr));
      if (!status) return pass(std::move(status));
      return watch.seconds();
    });
  }

  Result<double> both() {
    return with_reservation([&](kvfs_reservation* reservation) -> Result<double> {
      const kvfs_pages to = loaded_.pages();
      const kvfs_pages from = stored_.pages();
      kvfs_transfer* loading = nullptr;
      kvfs_transfer* storing = nullptr;
      const Stopwatch watch;
      Status status = check(kvfs_load(lease_.get(), 0, 0, blocks_, &to, nullptr, &loading));
      if (status) {
        status = check(kvfs_store(reservation, 0, 0, blocks_, &from, nullptr, &storing));
      }
      for (kvfs_transfer* transfer : {loading, storing}) {
        if (transfer == nullptr) continue;
        if (Status waited = check(kvfs_transfer_wait(transfer, -1)); status && !waited) {
          status = std::move(waited);
        }
      }
      const double seconds = watch.seconds();
      kvfs_transfer_free(loading);
      kvfs_transfer_free(storing);
      if (!status) return pass(std::move(status));
      return seconds;
    });
  }

  [[nodiscard]] GpuPeers& peers() { return *peers_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  template <typename Use>
  Result<double> with_reservation(const Use& use) {
    const std::vector<Token> prompt = prompt_of_blocks(++prompts_, blocks_, block_tokens_);
    Result<ReservationPtr> reservation = reserve(name_space_.client(), prompt);
    if (!reservation) return pass(std::move(reservation));
    Result<double> seconds = use(reservation->get());
    if (!seconds) return seconds;
    // Slots of a reservation that is not committed stay out of use for a while.
    kvfs_commit_result result{};
    Status status = check(kvfs_commit(reservation->get(), 0, &result));
    reservation->reset();
    if (status) status = evict_prefix(name_space_, result.key);
    if (!status) return pass(std::move(status));
    return seconds;
  }

  // Slabs are pinned behind the first loads.
  Status until_registered() {
    const Stopwatch patience;
    while (patience.seconds() < kRegistrationPatience) {
      Result<double> loaded = load();
      Result<double> limit = peers_->large_copy(GpuDirection::kLoad);
      if (!loaded) return pass(std::move(loaded));
      if (!limit) return pass(std::move(limit));
      if (*loaded < 1.5 * *limit) return {};
    }
    return fail(Code::kUnavailable,
                "loads stay far below the link: the DRAM tier's slabs could not be pinned "
                "(ulimit -l, or no passthrough: see kvfs doctor)");
  }

  const Gpu& gpu_;
  const TempNamespace& name_space_;
  const std::uint32_t blocks_;
  const std::uint64_t bytes_;
  std::uint32_t block_tokens_ = 0;
  std::uint64_t prompts_ = 1000;
  GpuCache loaded_, stored_;
  std::unique_ptr<GpuPeers> peers_;
  LeasePtr lease_;
};

// How often a size is measured: seconds-long transfers vary little.
struct Times {
  int warm_up = 3, rounds = 15;
  int burst = 5;  // several in a row, as they come in an engine that is busy: their median counts
  Times(std::uint64_t bytes, bool quick) {
    constexpr std::uint64_t kLong = std::uint64_t{4} << 30;
    if (quick) rounds = 5;
    if (bytes >= kLong) warm_up = burst = 1, rounds = 3;
  }
};

Result<double> burst(int times, const std::function<Result<double>()>& once) {
  std::vector<double> seconds;
  for (int i = 0; i < times; ++i) {
    Result<double> one = once();
    if (!one) return one;
    seconds.push_back(*one);
  }
  return median(std::move(seconds));
}

// All ways in turn, every one beside its limit.
Status measure(Sized& sized, const GpuModel& model, const std::string& suffix, const Target& target,
               const Emit& emit) {
  GpuPeers& peers = sized.peers();
  const Times times(sized.bytes(), target.quick);
  const double bytes = static_cast<double>(sized.bytes());
  const std::uint32_t step = model.raw() ? kLayerStep : kEncodedLayerStep;
  for (const GpuDirection direction : {GpuDirection::kLoad, GpuDirection::kStore}) {
    const bool load = direction == GpuDirection::kLoad;
    const std::string name = load ? "gpu_load" : "gpu_store";
    std::vector<Named> ways{
        {model.row(name), [&] { return load ? sized.load() : sized.store(); }, least_ratio(model)}};
    if (model.raw()) {
      ways.push_back({name + "_batch_copy", [&] { return peers.batch(direction); }, 0});
      ways.push_back({name + "_zero_copy", [&] { return peers.zero_copy(direction); }, 0});
    }
    if (load) {
      ways.push_back({model.row(name + "_layers"), [&] { return sized.load(step); }, 0});
    }
    std::map<std::string, std::vector<Round>> rounds;
    for (int i = -times.warm_up; i < times.rounds; ++i) {
      for (const Named& way : ways) {
        Result<double> seconds = burst(times.burst, way.seconds);
        if (!seconds) return pass(std::move(seconds));
        Result<double> limit = burst(times.burst, [&] { return peers.large_copy(direction); });
        if (!limit) return pass(std::move(limit));
        if (i >= 0) rounds[way.row].push_back({bytes / *seconds / 1e9, bytes / *limit / 1e9});
      }
    }
    for (const Named& way : ways) {
      emit(speed_row(way.row + suffix, "GB/s", std::move(rounds[way.row]), way.target));
    }
  }
  std::vector<Round> rounds;
  for (int i = -times.warm_up; i < times.rounds; ++i) {
    Result<double> seconds = burst(times.burst, [&] { return sized.both(); });
    if (!seconds) return pass(std::move(seconds));
    Result<double> limit = burst(times.burst, [&] { return peers.two_large_copies(); });
    if (!limit) return pass(std::move(limit));
    if (i >= 0) rounds.push_back({2 * bytes / *seconds / 1e9, 2 * bytes / *limit / 1e9});
  }
  emit(speed_row(model.row("gpu_both") + suffix, "GB/s", std::move(rounds),
                 model.raw() ? kLeastBoth : 0));
  Status status = sized.compare(model, 0);
  return status ? sized.compare(model, step) : status;
}

}  // namespace

Status bench_gpu_copies(const Target& target, const GpuOptions& options, const Emit& emit) {
  Result<GpuModel> model = find_gpu_model(options);
  if (!model) return pass(std::move(model));
  Result<std::unique_ptr<Gpu>> gpu = Gpu::open(options.device);
  if (!gpu) return pass(std::move(gpu));
  auto name_space = TempNamespace::create(target.mount, "bench-gpu", model->geometry());
  if (!name_space) return pass(std::move(name_space));
  bool first = options.name.empty();
  for (const std::uint64_t bytes : options.sizes) {
    Sized sized(**gpu, **name_space, *model, std::max(bytes, model->rank_block_bytes()));
    Status status = sized.prepare(*model, target.kv.get());
    const std::string suffix = first ? "" : options.name + size_suffix(sized.bytes());
    if (status) status = measure(sized, *model, suffix, target, emit);
    if (!status) return status;
    first = false;
  }
  return {};
}

}  // namespace kvfs::bench
