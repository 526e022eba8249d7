// The files that are always there below .kvfs.
#pragma once

#include <span>
#include <string_view>

#include "fs/mount/inode.h"

namespace kvfs::mount {

struct StaticEntry {
  std::string_view name;
  InodeKind kind;
};

// Of /.kvfs or /<ns>/.kvfs; empty for every other directory.
std::span<const StaticEntry> static_entries(InodeKind directory);

}  // namespace kvfs::mount
