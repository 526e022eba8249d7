// SurvivorReader: the blocks in DRAM that an earlier daemon's catalog files describe.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "fs/store/catalog.h"
#include "fs/store/index_records.h"
#include "fs/store/mapped_file.h"
#include "fs/store/node_file.h"

namespace kvfs::store {

// A block is believed when its record's key is that of its tokens behind its parent's key, and its
// state says that it was live. Files that are not a catalog of this geometry are logged and
// skipped.
//
// Threads: one.
// Owns:    its read-only mappings of the old files.
// Blocks:  never on I/O.
// Errors:  none; what cannot be read is logged and skipped.
class SurvivorReader {
 public:
  explicit SurvivorReader(const Geometry& geometry) : geometry_(geometry) {}
  // Newest generation first: of two records of one key the one added first counts.
  void add(const std::string& directory, std::uint64_t generation);
  // In order of ascending depth.
  void read(const std::function<void(const Catalog::Survivor&)>& each) const;

 private:
  struct Generation {
    MappedFile index;
    IndexRecords records;
    NodeFile nodes;
    BlockId high;
  };
  struct Candidate {
    std::uint32_t depth;
    std::uint32_t generation;
    BlockId id;
    friend auto operator<=>(const Candidate&, const Candidate&) = default;
  };
  Result<Generation> open(const std::string& directory, std::uint64_t generation) const;
  [[nodiscard]] bool in_dram(const Generation& from, BlockId id) const;
  [[nodiscard]] bool consistent(const Generation& from, BlockId id) const;
  [[nodiscard]] std::vector<Candidate> candidates() const;

  const Geometry& geometry_;
  std::vector<Generation> generations_;
};

}  // namespace kvfs::store
