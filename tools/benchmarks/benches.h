// The measurements, each in its file bench_<name>.cc; README.md says what each row means.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "lib/format/geometry.h"
#include "lib/format/result.h"
#include "tools/benchmarks/daemon.h"
#include "tools/benchmarks/gpu_model.h"
#include "tools/benchmarks/real_kv.h"
#include "tools/benchmarks/row.h"

namespace kvfs::bench {

using Emit = std::function<void(const Row&)>;

struct Target {
  std::string mount;
  std::string nvme_directory;  // where fio measures the same disk; empty: no NVMe tier
  bool quick = false;
  std::shared_ptr<const RealKv> kv;  // what engines' caches hold; none: random numbers
};

Status bench_match(const Target& target, const std::string& row, std::uint64_t blocks,
                   const Emit& emit);
Status bench_lease_load(const Target& target, const Emit& emit);
Status bench_cpu_load(const Target& target, const Emit& emit);
Status bench_cpu_store(const Target& target, const Emit& emit);
Status bench_cpu_encoded(const Target& target, Encoding encoding, const Emit& emit);
Status bench_read_prefix(const Target& target,
                         const Emit& emit);  // read_prefix_first and read_prefix
Status bench_stat_missing(const Target& target, const Emit& emit);
Status bench_nvme_promote(const Target& target, const Emit& emit);
Status bench_nvme_writeback(const Target& target, const Emit& emit);
Status bench_plain(const Target& target,
                   const Emit& emit);  // plain_read, plain_read_cached and plain_write

// kUnavailable where the build or the machine has no CUDA.
Status bench_gpu_copies(const Target& target, const GpuOptions& options,
                        const Emit& emit);  // gpu_load, gpu_store, gpu_both
Status bench_gpu_load_1block(const Target& target, const GpuOptions& options, const Emit& emit);
Status bench_gpu_nvme(const Target& target, const GpuOptions& options, const Emit& emit);
// The mount has a GPU tier that holds the largest size.
Status bench_gpu_tier(const Target& target, const GpuOptions& options, const Emit& emit);

// On a daemon whose namespace `million` was filled by fill_million().
inline constexpr const char* kMillion = "bench-million";
inline constexpr std::uint64_t kMillionBlocks = std::uint64_t{1} << 20;
Status fill_million(const Target& target);
Status bench_match_million(const Target& target, const Emit& emit);
Status bench_metadata(const Target& target, const Emit& emit);
Status bench_restart(Daemon& daemon, const Target& target, const Emit& emit);

}  // namespace kvfs::bench
