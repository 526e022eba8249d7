// What `tools/bench` measured, for `kvfs plan` and `kvfs ns create`.
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
  std::optional<BenchFigure> packed;  // as link, of packed blocks: gpu_load_packed, else cpu_packed
  std::vector<PrefillPoint> prefill;  // what ttft_8k, ttft_32k, ... say of a cold prefill
};

// A JSON object a line; "-" is standard input. kInvalid: not that, or none of these rows;
// kNotFound, kPermission, kIo.
Result<BenchFigures> read_bench(const std::string& path);

// Whether a packed block is loaded faster than a raw one, on the GPU if there are rows of one, else
// on the CPU. kInvalid: the file lacks the two rows that say so.
Result<bool> packing_pays(const BenchFigures& figures, const std::string& path);

}  // namespace kvfs::cli
