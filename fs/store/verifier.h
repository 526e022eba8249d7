// Verifier: reads blocks from where they are and compares them with their checksums.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "fs/store/namespace_state.h"

namespace kvfs::store {

// A bad copy is dropped: in favour of the good one in the other tier, else with the block and all
// that follows it. A block in DRAM that has no checksum yet gets one. A copy that cannot be read
// stays: a disk that fails or does not answer may come back with it.
//
// Threads: one at a time per Verifier.
// Owns:    buffers to read into.
// Blocks:  for its reads.
// Errors:  kIo when the NVMe tier is out of use, which reads that fail bring about.
class Verifier {
 public:
  explicit Verifier(NamespaceState& state) : state_(state) {}
  Result<Namespace::Verified> verify(std::uint64_t cursor, std::uint64_t limit);

 private:
  // One group of one block.
  struct Copy {
    BlockOf block;
    tiers::DramSlot dram;
    tiers::TierSlot nvme;
    std::uint64_t checksum = 0;
    bool has_checksum = false;
    bool dram_bad = false;
    bool nvme_bad = false;
    Status nvme_read;
  };
  struct FreeBuffer {
    void operator()(std::byte* buffer) const;
  };
  using Buffer = std::unique_ptr<std::byte[], FreeBuffer>;

  void collect(BlockId id, std::vector<Copy>& copies) REQUIRES(state_.mutex);
  void check(std::vector<Copy>& copies);
  void read_nvme(std::vector<Copy>& copies);
  void settle(std::vector<Copy>& copies, Namespace::Verified& verified);
  void repair(const Copy& copy, Removal& removal) REQUIRES(state_.mutex);

  NamespaceState& state_;
  std::vector<Buffer> buffers_;
};

}  // namespace kvfs::store
