// The private tmpfs that the slabs and the store's index are in. It outlives the daemon, so that
// the next one finds them again.
#pragma once

#include <cstdint>
#include <string>

#include "lib/format/result.h"

namespace kvfs::tiers {

struct TmpfsOptions {
  std::string mount_point;  // where root mounts one; made if missing (its parent must be there)
  std::string fallback;  // a directory on a tmpfs that is there, e.g. /dev/shm/kvfs-<uid>-<store>
  std::uint64_t bytes = 0;  // size of the mount: slabs and index together
};

struct PrivateTmpfs {
  std::string path;      // mount_point or fallback
  bool mounted = false;  // a mount of its own
  bool huge = false;     // gives huge pages at first touch
  bool made = false;     // by this call: nothing of an earlier daemon is in it
};

// Takes over what an earlier daemon left, resized to `bytes`; mounts one where that is permitted,
// with huge=always where the kernel has it; else makes `fallback`, mode 0700. kPermission:
// `fallback` belongs to somebody else, is a link, or others may enter it. kMismatch: something else
// is mounted at mount_point.
Result<PrivateTmpfs> prepare_private_tmpfs(const TmpfsOptions& options);

// Gives the memory back: unmounts, or removes the files in `path` and the directory itself.
// kBusy: somebody still uses it.
Status remove_private_tmpfs(const PrivateTmpfs& tmpfs);

}  // namespace kvfs::tiers
