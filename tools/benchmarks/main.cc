// kvfs-bench: measures a kvfs mount against the machine's own limits; one JSON object a line.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>

#include "tools/benchmarks/benches.h"
#include "tools/benchmarks/cleanup.h"
#include "tools/benchmarks/nvme_place.h"
#include "tools/cli/control_client.h"
#include "tools/cli/mount_point.h"
#include "tools/cli/stats_file.h"

namespace kvfs::bench {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

struct Options {
  std::vector<std::string> only;
  std::string directory = ".";
  std::string mount;
  std::string data;
  std::shared_ptr<const RealKv> kv;  // of `data`
  bool quick = false;
  bool on_gpu = false;
  bool sweep = false;
  GpuOptions gpu;
};

const std::vector<std::string> kRows{
    "match_32k_1k", "match_32k_32k", "match_32k_1m",   "lease_load_1block",
    "cpu_load",     "cpu_store",     "cpu_packed",     "cpu_fp8",
    "cpu_int8",     "nvme_promote",  "nvme_writeback", "plain_read",
    "read_prefix",  "stat_missing",  "restart_1m",     "metadata_bytes"};
const std::vector<std::string> kGpuRows{"gpu_load",        "gpu_packed", "gpu_fp8", "gpu_int8",
                                        "gpu_load_1block", "gpu_nvme",   "gpu_tier"};

void emit(const Row& row) {
  fmt::print("{}\n", to_line(row));
  std::fflush(stdout);
}

// Rows of copies say it where they move real KV.
Emit emit_of(const Target& target) {
  return [real = target.kv != nullptr](Row row) {
    if (real) row.data = "real";
    emit(row);
  };
}

// One measurement, by the name of its first row.
struct Bench {
  std::string name;
  std::function<Status(const Target&)> run;
};

bool wanted(const Options& options, const std::string& name) {
  return options.only.empty() || std::ranges::find(options.only, name) != options.only.end();
}

std::vector<Bench> chosen(const Options& options, std::vector<Bench> all) {
  std::erase_if(all, [&](const Bench& bench) { return !wanted(options, bench.name); });
  return all;
}

std::vector<Bench> memory_benches() {
  return {
      {"match_32k_1k",
       [](const Target& target) { return bench_match(target, "match_32k_1k", 1024, emit); }},
      {"match_32k_32k",
       [](const Target& target) { return bench_match(target, "match_32k_32k", 32768, emit); }},
      {"lease_load_1block", [](const Target& target) { return bench_lease_load(target, emit); }},
      {"cpu_load", [](const Target& target) { return bench_cpu_load(target, emit); }},
      {"cpu_store", [](const Target& target) { return bench_cpu_store(target, emit); }},
      {"cpu_packed",
       [](const Target& target) {
         return bench_cpu_encoded(target, Encoding::kPacked, emit_of(target));
       }},
      {"cpu_fp8",
       [](const Target& target) {
         return bench_cpu_encoded(target, Encoding::kFp8, emit_of(target));
       }},
      {"cpu_int8",
       [](const Target& target) {
         return bench_cpu_encoded(target, Encoding::kInt8, emit_of(target));
       }},
      {"read_prefix", [](const Target& target) { return bench_read_prefix(target, emit); }},
      {"stat_missing", [](const Target& target) { return bench_stat_missing(target, emit); }}};
}

std::vector<Bench> nvme_benches() {
  return {
      {"nvme_promote", [](const Target& target) { return bench_nvme_promote(target, emit); }},
      {"nvme_writeback", [](const Target& target) { return bench_nvme_writeback(target, emit); }},
      {"plain_read", [](const Target& target) { return bench_plain(target, emit); }}};
}

// Number of benchmarks that failed to run.
int run_all(const std::vector<Bench>& benches, const Target& target) {
  int failed = 0;
  for (const Bench& bench : benches) {
    const Status status = bench.run(target);
    if (status) continue;
    fmt::print(stderr, "kvfs-bench: {}: {}\n", bench.name, status.error().message);
    ++failed;
  }
  return failed;
}

int run_on_own_daemon(const std::vector<Bench>& benches, const Options& options,
                      const DaemonOptions& daemon_options) {
  if (benches.empty()) return 0;
  Result<std::unique_ptr<Daemon>> daemon = Daemon::launch(daemon_options);
  if (!daemon) {
    fmt::print(stderr, "kvfs-bench: {}\n", daemon.error().message);
    return 1;
  }
  return run_all(benches, {.mount = (*daemon)->mount(),
                           .nvme_directory = (*daemon)->directory(),
                           .quick = options.quick,
                           .kv = options.kv});
}

// The rows that need a GPU; all others need none.
int run_gpu(const Options& options) {
  // The store keeps whole blocks, whatever share of them a rank moves: one prefix to load and one
  // being stored.
  const std::uint64_t largest = std::ranges::max(options.gpu.sizes) * options.gpu.tensor_parallel;
  const auto bench = [&](auto run) {
    return
        [&options, run](const Target& target) { return run(target, options.gpu, emit_of(target)); };
  };
  std::vector<Bench> copies{{"gpu_load_1block", bench(bench_gpu_load_1block)},
                            {"gpu_load", bench(bench_gpu_copies)}};
  // Copies of the largest size, however else blocks are stored.
  for (const char* encoding : {"packed", "fp8", "int8"}) {
    GpuOptions one = options.gpu;
    one.encoding = encoding;
    one.sizes = {std::ranges::max(one.sizes)};
    copies.push_back({std::string("gpu_") + encoding, [one](const Target& target) {
                        return bench_gpu_copies(target, one, emit_of(target));
                      }});
  }
  int failed =
      run_on_own_daemon(chosen(options, std::move(copies)), options,
                        {.directory = options.directory, .dram = 3 * largest + 1024 * kMiB});
  failed +=
      run_on_own_daemon(chosen(options, {{"gpu_nvme", bench(bench_gpu_nvme)}}), options,
                        {.directory = options.directory, .dram = 2560 * kMiB, .nvme = 4096 * kMiB});
  // One prefix at a time, and slabs that another one has left.
  failed += run_on_own_daemon(
      chosen(options, {{"gpu_tier", bench(bench_gpu_tier)}}), options,
      {.directory = options.directory,
       .dram = 3 * largest + 1024 * kMiB,
       .gpu = fmt::format("{}:{}", options.gpu.device, 2 * largest + 512 * kMiB)});
  return failed;
}

// Copies of every geometry and size; 16 GiB take 64 GiB of DRAM and of GPU memory.
int run_gpu_sweep(const Options& options) {
  std::vector<Bench> benches;
  std::uint64_t largest = 0;
  for (const GpuOptions& one : gpu_sweep(options.gpu.device)) {
    largest = std::max(largest, std::ranges::max(one.sizes) * one.tensor_parallel);
    benches.push_back({"gpu_load" + one.name, [one](const Target& target) {
                         return bench_gpu_copies(target, one, emit_of(target));
                       }});
  }
  return run_on_own_daemon(benches, options,
                           {.directory = options.directory, .dram = 3 * largest + 1024 * kMiB});
}

int run_million(const Options& options) {
  const bool any = wanted(options, "match_32k_1m") || wanted(options, "metadata_bytes") ||
                   wanted(options, "restart_1m");
  if (!any) return 0;
  // Most blocks are on NVMe only, as in a store that is larger than memory.
  Result<std::unique_ptr<Daemon>> daemon = Daemon::launch({.directory = options.directory,
                                                           .dram = 512 * kMiB,
                                                           .nvme = 5120 * kMiB,
                                                           .keep_dram = false});
  if (!daemon) {
    fmt::print(stderr, "kvfs-bench: {}\n", daemon.error().message);
    return 1;
  }
  const Target target{.mount = (*daemon)->mount(), .quick = options.quick};
  std::vector<Bench> benches =
      chosen(options,
             {{"match_32k_1m", [](const Target& at) { return bench_match_million(at, emit); }},
              {"metadata_bytes", [](const Target& at) { return bench_metadata(at, emit); }},
              {"restart_1m", [&](const Target& at) { return bench_restart(**daemon, at, emit); }}});
  if (const Status filled = fill_million(target); !filled) {
    fmt::print(stderr, "kvfs-bench: a million blocks: {}\n", filled.error().message);
    return static_cast<int>(benches.size());
  }
  return run_all(benches, target);
}

int run_on_own_mounts(const Options& options) {
  int failed = run_on_own_daemon(chosen(options, memory_benches()), options,
                                 {.directory = options.directory, .dram = 1024 * kMiB});
  failed +=
      run_on_own_daemon(chosen(options, nvme_benches()), options,
                        {.directory = options.directory, .dram = 2560 * kMiB, .nvme = 4096 * kMiB});
  return failed + run_million(options);
}

// On a mount that is there, in namespaces of the benchmark's own; what would need a restart or
// gigabytes of it is left out.
int run_on_mount(const Options& options) {
  Result<std::string> mount = cli::find_mount(options.mount);
  if (!mount) {
    fmt::print(stderr, "kvfs-bench: {}\n", mount.error().message);
    return 1;
  }
  Target target{.mount = *mount, .quick = options.quick, .kv = options.kv};
  int failed = run_all(chosen(options, memory_benches()), target);
  const std::vector<Bench> nvme = chosen(options, nvme_benches());
  Result<std::string> place = nvme_place(*mount);
  if (!nvme.empty() && place) {
    target.nvme_directory = *place;
    failed += run_all(nvme, target);
  } else if (!nvme.empty()) {
    fmt::print(stderr, "kvfs-bench: the NVMe rows are left out: {}\n", place.error().message);
  }
  return failed;
}

void add_gpu_options(CLI::App& app, GpuOptions& gpu) {
  app.add_option("--model", gpu.model, "With --gpu: whose KV, one of " + gpu_model_names());
  app.add_option("--tp", gpu.tensor_parallel, "With --gpu: ranks that share the KV heads");
  app.add_option("--block-tokens", gpu.block_tokens, "With --gpu: tokens of a block")
      ->check(CLI::PositiveNumber);
  app.add_option("--page-tokens", gpu.page_tokens, "With --gpu: tokens of a page of the engine's")
      ->check(CLI::PositiveNumber);
  app.add_option("--size", gpu.sizes,
                 "With --gpu: what one transfer carries, e.g. 64MiB; again for more")
      ->transform(CLI::AsSizeValue(false))
      ->allow_extra_args(false);
  app.add_option("--device", gpu.device, "With --gpu: which GPU");
  app.add_option("--encoding", gpu.encoding, "With --gpu: how blocks are stored")
      ->check(CLI::IsMember({"raw", "packed", "fp8", "int8"}));
}

int run(int argc, char** argv) {
  Options options;
  CLI::App app("Measures kvfs against the machine's own limits: one JSON object a line",
               "kvfs-bench");
  app.add_option("--only", options.only, "Only this row; again for more")
      ->type_name("NAME")
      ->allow_extra_args(false);
  app.add_option("--dir", options.directory, "Where the NVMe tier's directory goes (default: here)")
      ->type_name("DIR");
  app.add_option("--mount", options.mount, "A mount that is there, instead of temporary ones")
      ->type_name("DIR");
  app.add_option("--data", options.data,
                 "Real KV for the copies to move, of real_kv.py, instead of random numbers")
      ->type_name("FILE");
  app.add_flag("--quick", options.quick, "Fewer rounds");
  app.add_flag("--gpu", options.on_gpu, "The rows that need a GPU instead of those that need none");
  app.add_flag("--gpu-sweep", options.sweep,
               "Copies to and from a GPU for every geometry, block size and transfer size");
  add_gpu_options(app, options.gpu);
  CLI11_PARSE(app, argc, argv);
  const std::vector<std::string>& known = options.on_gpu ? kGpuRows : kRows;
  for (const std::string& name : options.only) {
    if (std::ranges::find(known, name) == known.end()) {
      fmt::print(stderr, "kvfs-bench: there is no row {}: use one of {}\n", name,
                 fmt::join(known, ", "));
      return 2;
    }
  }
  if (!options.data.empty()) {
    Result<std::shared_ptr<const RealKv>> kv = RealKv::read(options.data);
    if (!kv) {
      fmt::print(stderr, "kvfs-bench: {}\n", kv.error().message);
      return 2;
    }
    options.kv = std::move(*kv);
  }
  options.directory = std::filesystem::absolute(options.directory).lexically_normal().string();
  const int failed = options.sweep           ? run_gpu_sweep(options)
                     : options.on_gpu        ? run_gpu(options)
                     : options.mount.empty() ? run_on_own_mounts(options)
                                             : run_on_mount(options);
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace kvfs::bench

int main(int argc, char** argv) {
  kvfs::bench::Cleanup::instance();
  try {
    const int status = kvfs::bench::run(argc, argv);
    kvfs::bench::Cleanup::instance().run_all();
    return status;
  } catch (const std::exception& error) {
    fmt::print(stderr, "kvfs-bench: {}\n", error.what());
    kvfs::bench::Cleanup::instance().run_all();
    return 1;
  }
}
