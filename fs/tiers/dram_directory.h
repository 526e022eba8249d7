// The directory the slabs are in.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fs/tiers/slab_file.h"
#include "fs/tiers/slab_record.h"
#include "fs/unique_fd.h"
#include "lib/format/result.h"

namespace kvfs::tiers {

// A slab an earlier daemon left behind; without a record it never had an owner.
struct FoundSlab {
  SlabId id;
  std::shared_ptr<SlabFile> file;
  std::optional<SlabRecord> record;
};

// Threads: after open, any. Owns: the directory's descriptor and its lock (one daemon at a time).
// Blocks:  open and scan, shortly. Errors: kBusy, kIo, kNoSpace.
class DramDirectory {
 public:
  DramDirectory() = default;
  static Result<DramDirectory> open(const std::string& path);

  // Slabs in the order of their ids. What is left of a removal or a half-written record is cleared
  // away; files of other names are not touched (the store keeps its index beside the slabs).
  [[nodiscard]] Result<std::vector<FoundSlab>> scan() const;
  // Whether the file system, and with `touched` the machine's memory, has `bytes` more to give.
  [[nodiscard]] Status check_room(std::uint64_t bytes, bool touched) const;

  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  std::string path_;
  UniqueFd fd_;
};

}  // namespace kvfs::tiers
