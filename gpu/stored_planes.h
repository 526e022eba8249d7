// StoredPlanes: some planes (a layer's K or V) of stored heads, and where they lie. A part of
// kernels' arguments.
#pragma once

#include <stdint.h>

namespace kvfs::gpu {

struct StoredPlanes {
  uint32_t first = 0, count = 0;  // planes, in the head's order
  uint64_t head_bytes = 0;        // from one head to the next
  uint64_t at = 0;                // bytes into a head: the first of these planes' bands or numbers
  // Of packed heads, those in the head's list that are there, and where the first of them is.
  uint32_t first_escape = 0, end_escape = 0;
  uint64_t escapes_at = 0;
};

}  // namespace kvfs::gpu
