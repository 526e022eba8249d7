// Snapshots of what the store counts; the mount prints them as JSON and Prometheus text.
#pragma once

#include <cstdint>
#include <string>

#include "fs/histogram.h"

namespace kvfs::store {

struct TierStats {
  bool present = false;
  std::uint64_t capacity = 0;  // bytes
  std::uint64_t used = 0;      // bytes in slots that are taken
  std::uint64_t reserved = 0;  // bytes in slabs or segments (>= used)
  std::uint64_t blocks = 0;
  std::uint64_t bytes_in = 0;   // written into the tier: stores (dram), write-back (nvme)
  std::uint64_t bytes_out = 0;  // loads (dram), promotion (nvme)
  std::uint64_t errors = 0;
  std::uint32_t queued = 0;  // I/O not completed
};

struct Evictions {             // blocks, by reason
  std::uint64_t capacity = 0;  // dropped altogether to make room
  std::uint64_t dirty = 0;     // the same, before write-back had brought them to NVMe
  std::uint64_t demoted = 0;   // left DRAM, remain on NVMe
  std::uint64_t removed = 0;   // rm, evict, namespace removal
  std::uint64_t corrupt = 0;   // failed their checksum
  std::uint64_t io_error = 0;
  std::uint64_t slab_moved = 0;  // their slab went to another namespace
  std::uint64_t gpu = 0;         // left the GPU tier, remain below
};

struct NamespaceStats {
  std::string name;
  std::uint64_t blocks = 0;    // live
  std::uint64_t prefixes = 0;  // leaves
  std::uint64_t gpu_blocks = 0, dram_blocks = 0, nvme_blocks = 0;
  std::uint64_t gpu_bytes = 0, dram_bytes = 0, nvme_bytes = 0;  // slots taken
  std::uint64_t metadata_bytes = 0;
  std::uint64_t hit_blocks = 0, missed_blocks = 0;  // counted at leases, and as clients report
  std::uint64_t leases_total = 0, commits_total = 0, committed_blocks = 0, lost_races = 0;
  // Not stored, since they, or a block before them, could not be packed.
  std::uint64_t unpackable_blocks = 0;
  // Of a quantized namespace: how far from an engine's number a stored one was at most, and how
  // often a layer's K or V of a block's head had infinities, which saturated.
  double largest_error = 0;
  std::uint64_t saturated_planes = 0;
  std::uint64_t leases_open = 0, reservations_open = 0;
  std::uint64_t pinned = 0;
  std::uint64_t loaded_bytes = 0, stored_bytes = 0, promoted_bytes = 0, written_back_bytes = 0;
  Evictions evictions;
};

struct StoreStats {
  TierStats gpu, dram, nvme;
  std::uint64_t dirty_bytes = 0;        // committed, not on NVMe yet
  std::uint64_t writeback_backlog = 0;  // their limit
  std::uint64_t quarantined_bytes = 0;
  HistogramSnapshot lease_latency, reserve_latency, commit_latency;
  HistogramSnapshot promote_latency, writeback_latency;  // a block, queued to done
  double uptime_seconds = 0;
};

}  // namespace kvfs::store
