// Recovery: what the journal and an earlier daemon's memory know, into fresh catalogs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fs/store/namespace_state.h"

namespace kvfs::store {

// For each namespace: first what is on NVMe, as the journal has it; then what is in DRAM, as the
// files of a daemon that was killed (or kept its DRAM) have it. A block whose parent is missing is
// dropped: cached prefixes are closed under shortening. So is one whose key is not that of its
// tokens.
//
// Threads: used by one, before any other is there.
// Owns:    the journal's changes until finish().
// Blocks:  reads the journal, writes it in finish().
// Errors:  a damaged record of a block is dropped and counted; one of a namespace is an error.
class Recovery {
 public:
  explicit Recovery(Services& services) : services_(services) {}

  Result<std::vector<NamespacePtr>> recover();
  // Makes a namespace's catalog in its directory below run_directory.
  static Result<NamespacePtr> make_state(Services& services, const NamespaceRecord& record,
                                         std::uint64_t expected_blocks);
  static std::string catalog_directory(const StoreOptions& options, std::uint32_t namespace_id);

 private:
  struct Counts {
    std::uint64_t on_nvme = 0, in_dram = 0, dirty = 0, dropped = 0;
  };
  Status load_blocks(NamespaceState& state) REQUIRES(state.mutex);
  Status load_names(NamespaceState& state) REQUIRES(state.mutex);
  void drop(std::uint32_t namespace_id, BlockId id);
  bool load_block(NamespaceState& state, BlockId id, const BlockRecord& record)
      REQUIRES(state.mutex);
  Status merge_dram(NamespaceState& state) REQUIRES(state.mutex);
  void merge_block(NamespaceState& state, const Catalog::Survivor& survivor) REQUIRES(state.mutex);
  void add_survivor(NamespaceState& state, const Catalog::Survivor& survivor) REQUIRES(state.mutex);
  void quarantine_unclaimed();
  Status finish(const std::vector<NamespacePtr>& states);

  Services& services_;
  std::vector<JournalOp> dropped_;
  Counts counts_;
};

}  // namespace kvfs::store
