// The record beside each slab that has an owner, so that a restarted daemon can take it over.
#pragma once

#include <cstdint>
#include <string>

#include "fs/tiers/dram_tier.h"
#include "lib/format/result.h"

namespace kvfs::tiers {

struct SlabRecord {
  SlabOwner owner;
  std::uint64_t slot_bytes = 0;
  std::uint64_t slab_bytes = 0;
};

std::string slab_file_name(SlabId id);
std::string slab_record_name(SlabId id);

// Appears whole or not at all: a daemon killed in between leaves the slab without a record, that
// is, as one that never had an owner. So it is written before the first slot is handed out.
Status write_slab_record(int directory, SlabId id, const SlabRecord& record);
// kNotFound: there is none; kCorrupt: it is not one, or of another version.
Result<SlabRecord> read_slab_record(int directory, SlabId id);
void remove_slab_record(int directory, SlabId id);

}  // namespace kvfs::tiers
