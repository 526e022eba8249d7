// What `tools/bench` measured, for `kvfs plan`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lib/format/result.h"
#include "tools/cli/load_or_recompute.h"

namespace kvfs::cli {

// A figure and the row that it is of.
struct BenchFigure {
  double value = 0;
  std::string row;
};

// The rows' names and units: tools/benchmarks/README.md. nullopt, or none: no such row.
struct BenchFigures {
  std::optional<BenchFigure> link;     // bytes per second: the best gpu_load, else cpu_load
  std::optional<BenchFigure> latency;  // seconds: gpu_load_1block, else lease_load_1block
  std::optional<BenchFigure> nvme;     // bytes per second: gpu_nvme, else nvme_promote
  std::vector<PrefillPoint> prefill;   // what ttft_8k, ttft_32k, ... say of a cold prefill
};

// A JSON object a line; "-" is standard input. kInvalid: not that, or no row that `plan` can use;
// kNotFound, kPermission, kIo.
Result<BenchFigures> read_bench(const std::string& path);

}  // namespace kvfs::cli
