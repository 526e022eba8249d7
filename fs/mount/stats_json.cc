#include "fs/mount/stats_json.h"

#include <nlohmann/json.hpp>

#include "fs/mount/file_system.h"
#include "fs/plain/plain_store.h"

namespace kvfs::mount {
namespace {

using nlohmann::json;

json tier_json(const store::TierStats& tier) {
  return {{"capacity", tier.capacity}, {"used", tier.used},         {"reserved", tier.reserved},
          {"blocks", tier.blocks},     {"bytes_in", tier.bytes_in}, {"bytes_out", tier.bytes_out},
          {"errors", tier.errors},     {"queued", tier.queued}};
}

json evictions_json(const store::Evictions& evictions) {
  return {{"capacity", evictions.capacity},     {"dirty", evictions.dirty},
          {"demoted", evictions.demoted},       {"removed", evictions.removed},
          {"corrupt", evictions.corrupt},       {"io_error", evictions.io_error},
          {"slab_moved", evictions.slab_moved}, {"gpu", evictions.gpu}};
}

std::uint64_t quantile_us(const HistogramSnapshot& histogram, double quantile) {
  const double wanted = quantile * static_cast<double>(histogram.count);
  std::uint64_t seen = 0;
  for (std::size_t bucket = 0; bucket < histogram.counts.size(); ++bucket) {
    seen += histogram.counts[bucket];
    if (static_cast<double>(seen) >= wanted) return 1ULL << bucket;
  }
  return 1ULL << histogram.counts.size();
}

json fuse_json(FileSystem& fs) {
  json ops = json::object();
  for (std::size_t op = 0; op < kOpNames.size(); ++op) {
    const HistogramSnapshot times = fs.op_metrics().snapshot(op);
    if (times.count != 0) ops[std::string(kOpNames[op])] = histogram_json(times);
  }
  return {{"passthrough", fs.passthrough()},
          {"inodes", fs.inodes().size()},
          {"open_files", fs.handles().size()},
          {"parked", fs.parked().waiting()},
          {"backings", fs.backings().open()},
          {"jobs_queued", fs.jobs().queued()},
          {"parked_wait", histogram_json(fs.parked().wait_times())},
          {"ops", std::move(ops)}};
}

json plain_directory_json(const plain::Evictor& evictor, const plain::Directory& directory) {
  const plain::DirectoryStats stats = directory.stats();
  return {{"name", stats.name},
          {"quota", evictor.quota_of(directory)},
          {"unit", plain::to_string(stats.unit)},
          {"bytes", stats.bytes},
          {"files", stats.files},
          {"counted", stats.counted},
          {"hits", stats.hits},
          {"misses", stats.misses},
          {"evictions",
           {{"files", stats.evicted_files},
            {"bytes", stats.evicted_bytes},
            {"corrupt", stats.corrupt_files},
            {"incomplete", stats.incomplete_files}}}};
}

// Null where the mount has no place for them.
json plain_json(FileSystem& fs) {
  if (fs.plain() == nullptr) return {};
  json directories = json::array();
  for (const auto& directory : fs.plain()->directories())
    directories.push_back(plain_directory_json(fs.plain()->evictor(), *directory));
  return {{"quota", fs.plain()->evictor().quota()},
          {"bytes", fs.plain()->evictor().bytes()},
          {"checksums_queued", fs.plain()->checksums_queued()},
          {"directories", std::move(directories)}};
}

}  // namespace

json histogram_json(const HistogramSnapshot& histogram) {
  json out = {{"count", histogram.count}, {"sum_seconds", histogram.sum_seconds}};
  out["p50_us"] = histogram.count == 0 ? json() : json(quantile_us(histogram, 0.5));
  out["p99_us"] = histogram.count == 0 ? json() : json(quantile_us(histogram, 0.99));
  return out;
}

double packing_ratio(const Geometry& geometry) {
  std::uint64_t blocks = 0;
  std::uint64_t slots = 0;
  for (std::size_t group = 0; group < geometry.groups.size(); ++group) {
    blocks += geometry.block_bytes(group);
    slots += geometry.slot_bytes(group);
  }
  return static_cast<double>(blocks) / static_cast<double>(slots);
}

json namespace_stats_json(const store::Namespace& ns) {
  const store::NamespaceStats stats = ns.stats();
  return {{"name", stats.name},
          {"encoding", encoding_name(ns.geometry().encoding)},
          {"ratio", packing_ratio(ns.geometry())},
          {"blocks", stats.blocks},
          {"prefixes", stats.prefixes},
          {"pinned", stats.pinned},
          {"tiers",
           {{"gpu", {{"blocks", stats.gpu_blocks}, {"bytes", stats.gpu_bytes}}},
            {"dram", {{"blocks", stats.dram_blocks}, {"bytes", stats.dram_bytes}}},
            {"nvme", {{"blocks", stats.nvme_blocks}, {"bytes", stats.nvme_bytes}}}}},
          {"metadata_bytes", stats.metadata_bytes},
          {"hit_blocks", stats.hit_blocks},
          {"missed_blocks", stats.missed_blocks},
          {"leases_open", stats.leases_open},
          {"leases_total", stats.leases_total},
          {"reservations_open", stats.reservations_open},
          {"commits_total", stats.commits_total},
          {"committed_blocks", stats.committed_blocks},
          {"lost_races", stats.lost_races},
          {"unpackable_blocks", stats.unpackable_blocks},
          {"largest_error", stats.largest_error},
          {"saturated_planes", stats.saturated_planes},
          {"loaded_bytes", stats.loaded_bytes},
          {"stored_bytes", stats.stored_bytes},
          {"promoted_bytes", stats.promoted_bytes},
          {"written_back_bytes", stats.written_back_bytes},
          {"evictions", evictions_json(stats.evictions)}};
}

json store_stats_json(FileSystem& fs) {
  const store::StoreStats stats = fs.store().stats();
  json tiers = json::object();
  if (stats.gpu.present) tiers["gpu"] = tier_json(stats.gpu);
  if (stats.dram.present) tiers["dram"] = tier_json(stats.dram);
  if (stats.nvme.present) tiers["nvme"] = tier_json(stats.nvme);
  json namespaces = json::array();
  for (const auto& ns : fs.store().namespaces()) namespaces.push_back(namespace_stats_json(*ns));
  return {{"store",
           {{"id", fs.store().id()},
            {"epoch", fs.store().epoch()},
            {"uptime_seconds", stats.uptime_seconds}}},
          {"tiers", std::move(tiers)},
          {"dirty_bytes", stats.dirty_bytes},
          {"writeback_backlog", stats.writeback_backlog},
          {"quarantined_bytes", stats.quarantined_bytes},
          {"namespaces", std::move(namespaces)},
          {"plain", plain_json(fs)},
          {"latency",
           {{"lease", histogram_json(stats.lease_latency)},
            {"reserve", histogram_json(stats.reserve_latency)},
            {"commit", histogram_json(stats.commit_latency)},
            {"promote", histogram_json(stats.promote_latency)},
            {"writeback", histogram_json(stats.writeback_latency)}}},
          {"fuse", fuse_json(fs)}};
}

}  // namespace kvfs::mount
