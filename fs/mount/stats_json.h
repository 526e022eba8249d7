// What the store counts, as JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "fs/store/store.h"

namespace kvfs::mount {

class FileSystem;

// {"store", "tiers": {tier: {...}}, "namespaces": [namespace_stats_json], "latency": {what:
// histogram}, "fuse": {...}}
nlohmann::json store_stats_json(FileSystem& fs);
nlohmann::json namespace_stats_json(const store::Namespace& ns);
// Bytes of an engine's blocks to bytes of the slots they take.
double packing_ratio(const Geometry& geometry);
// {"count", "sum_seconds", "p50_us", "p99_us"}; quantiles are upper bounds of their power of two.
nlohmann::json histogram_json(const HistogramSnapshot& histogram);

}  // namespace kvfs::mount
