#include "fs/mount/metrics_text.h"

#include <prometheus/text_serializer.h>

#include "fs/mount/file_system.h"
#include "fs/mount/metric_families.h"
#include "fs/plain/plain_store.h"

namespace kvfs::mount {
namespace {

double number(std::uint64_t value) { return static_cast<double>(value); }

void add_tier(MetricFamilies& out, const std::string& tier, const store::TierStats& stats) {
  if (!stats.present) return;
  const Labels labels{{"tier", tier}};
  out.gauge("kvfs_tier_capacity_bytes", "Hard limit of a tier", labels, number(stats.capacity));
  out.gauge("kvfs_tier_used_bytes", "Bytes in slots that are taken", labels, number(stats.used));
  out.gauge("kvfs_tier_reserved_bytes", "Bytes in slabs or segments", labels,
            number(stats.reserved));
  out.gauge("kvfs_tier_blocks", "Blocks in a tier", labels, number(stats.blocks));
  out.counter("kvfs_tier_written_bytes_total", "Bytes that came into a tier", labels,
              number(stats.bytes_in));
  out.counter("kvfs_tier_read_bytes_total", "Bytes that were read out of a tier", labels,
              number(stats.bytes_out));
  out.counter("kvfs_tier_errors_total", "Failed requests to a tier", labels, number(stats.errors));
  out.gauge("kvfs_tier_queue_depth", "Requests to a tier that are not completed", labels,
            number(stats.queued));
}

void add_evictions(MetricFamilies& out, const std::string& name,
                   const store::Evictions& evictions) {
  const std::pair<const char*, std::uint64_t> reasons[] = {
      {"capacity", evictions.capacity},     {"dirty", evictions.dirty},
      {"demoted", evictions.demoted},       {"removed", evictions.removed},
      {"corrupt", evictions.corrupt},       {"io_error", evictions.io_error},
      {"slab_moved", evictions.slab_moved}, {"gpu", evictions.gpu}};
  for (const auto& [reason, blocks] : reasons) {
    out.counter("kvfs_evicted_blocks_total", "Blocks that left, by reason",
                {{"namespace", name}, {"reason", reason}}, number(blocks));
  }
}

void add_namespace(MetricFamilies& out, const store::NamespaceStats& stats) {
  const std::string& name = stats.name;
  const Labels labels{{"namespace", name}};
  out.gauge("kvfs_blocks", "Blocks cached", labels, number(stats.blocks));
  out.gauge("kvfs_prefixes", "Longest prefixes cached", labels, number(stats.prefixes));
  out.gauge("kvfs_pinned_prefixes", "Prefixes that are never evicted", labels,
            number(stats.pinned));
  out.gauge("kvfs_metadata_bytes", "Memory for what is known of blocks", labels,
            number(stats.metadata_bytes));
  for (const auto& [tier, blocks, bytes] :
       {std::tuple("gpu", stats.gpu_blocks, stats.gpu_bytes),
        std::tuple("dram", stats.dram_blocks, stats.dram_bytes),
        std::tuple("nvme", stats.nvme_blocks, stats.nvme_bytes)}) {
    out.gauge("kvfs_namespace_tier_blocks", "Blocks by tier", {{"namespace", name}, {"tier", tier}},
              number(blocks));
    out.gauge("kvfs_namespace_tier_bytes", "Bytes by tier", {{"namespace", name}, {"tier", tier}},
              number(bytes));
  }
  out.counter("kvfs_hit_blocks_total", "Blocks that leases found", labels,
              number(stats.hit_blocks));
  out.counter("kvfs_missed_blocks_total", "Blocks that clients asked for in vain", labels,
              number(stats.missed_blocks));
  out.gauge("kvfs_leases", "Prefixes held now", labels, number(stats.leases_open));
  out.counter("kvfs_leases_total", "Prefixes that were held", labels, number(stats.leases_total));
  out.gauge("kvfs_reservations", "Reservations open now", labels, number(stats.reservations_open));
  out.counter("kvfs_commits_total", "Commits", labels, number(stats.commits_total));
  out.counter("kvfs_committed_blocks_total", "Blocks published", labels,
              number(stats.committed_blocks));
  out.counter("kvfs_lost_races_total", "Blocks that another writer published first", labels,
              number(stats.lost_races));
  out.counter("kvfs_unpackable_blocks_total",
              "Blocks not stored, since they or one before them could not be packed", labels,
              number(stats.unpackable_blocks));
  out.gauge("kvfs_largest_quantization_error",
            "How far a stored number was at most from the engine's, since the daemon began", labels,
            stats.largest_error);
  out.counter("kvfs_saturated_planes_total",
              "Layers' K or V of a block's head with infinities, which fp8 and int8 do not have",
              labels, number(stats.saturated_planes));
  const std::pair<const char*, std::uint64_t> moves[] = {
      {"loaded", stats.loaded_bytes},
      {"stored", stats.stored_bytes},
      {"promoted", stats.promoted_bytes},
      {"written_back", stats.written_back_bytes}};
  for (const auto& [move, bytes] : moves) {
    out.counter("kvfs_moved_bytes_total", "Bytes moved, by what moved them",
                {{"namespace", name}, {"move", move}}, number(bytes));
  }
  add_evictions(out, name, stats.evictions);
}

void add_store(MetricFamilies& out, const store::StoreStats& stats) {
  add_tier(out, "gpu", stats.gpu);
  add_tier(out, "dram", stats.dram);
  add_tier(out, "nvme", stats.nvme);
  out.gauge("kvfs_dirty_bytes", "Committed and not on NVMe yet", {}, number(stats.dirty_bytes));
  out.gauge("kvfs_writeback_backlog_bytes", "Limit of kvfs_dirty_bytes", {},
            number(stats.writeback_backlog));
  out.gauge("kvfs_quarantined_bytes", "Memory of dead writers that rests", {},
            number(stats.quarantined_bytes));
  out.gauge("kvfs_uptime_seconds", "Since the daemon opened the store", {}, stats.uptime_seconds);
  const std::pair<const char*, const HistogramSnapshot*> latencies[] = {
      {"lease", &stats.lease_latency},
      {"reserve", &stats.reserve_latency},
      {"commit", &stats.commit_latency},
      {"promote", &stats.promote_latency},
      {"writeback", &stats.writeback_latency}};
  for (const auto& [what, histogram] : latencies) {
    out.histogram("kvfs_store_seconds", "Time an operation of the store took",
                  {{"operation", what}}, *histogram);
  }
}

void add_plain_directory(MetricFamilies& out, const plain::Evictor& evictor,
                         const plain::Directory& directory) {
  const plain::DirectoryStats stats = directory.stats();
  const std::string& name = stats.name;
  const Labels labels{{"directory", name}};
  out.gauge("kvfs_plain_quota_bytes", "Most that a plain directory may take", labels,
            number(evictor.quota_of(directory)));
  out.gauge("kvfs_plain_bytes", "Bytes of files in a plain directory", labels, number(stats.bytes));
  out.gauge("kvfs_plain_files", "Files in a plain directory", labels, number(stats.files));
  out.counter("kvfs_plain_hits_total", "Files that were opened for reading", labels,
              number(stats.hits));
  out.counter("kvfs_plain_misses_total", "Names that were looked for in vain", labels,
              number(stats.misses));
  out.counter("kvfs_plain_evicted_bytes_total", "Bytes of files that left for others", labels,
              number(stats.evicted_bytes));
  const std::pair<const char*, std::uint64_t> reasons[] = {{"quota", stats.evicted_files},
                                                           {"corrupt", stats.corrupt_files},
                                                           {"incomplete", stats.incomplete_files}};
  for (const auto& [reason, files] : reasons) {
    out.counter("kvfs_plain_removed_files_total", "Files that the daemon removed, by reason",
                {{"directory", name}, {"reason", reason}}, number(files));
  }
}

void add_plain(MetricFamilies& out, FileSystem& fs) {
  if (fs.plain() == nullptr) return;
  for (const auto& directory : fs.plain()->directories())
    add_plain_directory(out, fs.plain()->evictor(), *directory);
  out.gauge("kvfs_plain_checksums_queued", "Closed files whose checksum is to be computed", {},
            number(fs.plain()->checksums_queued()));
}

void add_fuse(MetricFamilies& out, FileSystem& fs) {
  for (std::size_t op = 0; op < kOpNames.size(); ++op) {
    const HistogramSnapshot times = fs.op_metrics().snapshot(op);
    if (times.count == 0) continue;
    out.histogram("kvfs_fuse_request_seconds", "Time a request of the kernel took, waiting apart",
                  {{"op", std::string(kOpNames[op])}}, times);
  }
  out.histogram("kvfs_fuse_parked_seconds", "Time requests waited for data or durability", {},
                fs.parked().wait_times());
  out.gauge("kvfs_fuse_parked", "Requests that wait now", {}, number(fs.parked().waiting()));
  out.gauge("kvfs_fuse_inodes", "Inodes the kernel knows", {}, number(fs.inodes().size()));
  out.gauge("kvfs_fuse_open_files", "Open descriptors", {}, number(fs.handles().size()));
  out.gauge("kvfs_fuse_jobs_queued", "Imports and control requests that wait for a thread", {},
            number(fs.jobs().queued()));
  out.gauge("kvfs_fuse_passthrough", "1 when clients can map slabs and index", {},
            fs.passthrough() ? 1 : 0);
}

}  // namespace

std::string metrics_text(FileSystem& fs) {
  MetricFamilies out;
  add_store(out, fs.store().stats());
  for (const auto& ns : fs.store().namespaces()) add_namespace(out, ns->stats());
  add_plain(out, fs);
  add_fuse(out, fs);
  return prometheus::TextSerializer().Serialize(out.families());
}

}  // namespace kvfs::mount
