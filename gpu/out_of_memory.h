// Host memory that runs out in the middle of a copy.
#pragma once

#include <new>

#include "lib/format/result.h"

namespace kvfs::gpu {

// step(), which begins a part of a copy. An exception would leave it without an end: whoever waits
// for `done` waits for ever.
template <typename Step>
Status or_out_of_memory(const Step& step) {
  try {
    return step();
  } catch (const std::bad_alloc&) {
    return fail(Code::kIo, "out of memory: the copy was given up");
  }
}

}  // namespace kvfs::gpu
