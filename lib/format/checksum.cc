#include "lib/format/checksum.h"

// Inlined, and compiled with -O3 (CMakeLists.txt): distributions build the library for any x86-64
// at -O2, where it is slower than memory, and a promotion from NVMe costs little else. Fetching a
// kilobyte ahead is a tenth faster in memory that no cache holds, which blocks come from a disk in.
#define XXH_INLINE_ALL
#define XXH_PREFETCH_DIST 1024
#include <xxhash.h>

namespace kvfs {

std::uint64_t block_checksum(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

}  // namespace kvfs
