// A prompt from Python: tokens, and extra bytes by block.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include <kvfs/kvfs.h>
#include <nanobind/nanobind.h>

#include "int32s.h"

namespace kvfs::python {

using Extras = std::map<std::uint32_t, nanobind::bytes>;

// Threads: as Int32s.
// Owns:    what the kvfs_prompt points to; must outlive it.
// Blocks:  never.
// Errors:  ValueError for a token below 0 or outside int32.
class Prompt {
 public:
  Prompt(nanobind::handle tokens, const std::optional<Extras>& extras);
  Prompt(const Prompt&) = delete;
  Prompt& operator=(const Prompt&) = delete;

  [[nodiscard]] const kvfs_prompt* get() const { return &prompt_; }

 private:
  Int32s tokens_;
  std::vector<kvfs_extra> extras_;
  std::vector<nanobind::bytes> extra_bytes_;
  kvfs_prompt prompt_{};
};

}  // namespace kvfs::python
