// How many blocks of a chain are there, found by looking at few of them.
#pragma once

#include <cstddef>

namespace kvfs {

// `has(i)` looks whether block i of `blocks` is there; what is there is a prefix of the chain.
// While others add to it, the answer never cuts in two what was added at once from its last block
// to its first: a look at such a block can come after the one behind was missed, which is there by
// then, so that one is looked for once more. Where it still misses nobody's addition goes on.
template <typename Has>
std::size_t search_chain(std::size_t blocks, Has&& has) {
  std::size_t present = 0;  // block present - 1 was seen
  do {
    std::size_t absent = blocks + 1;
    while (absent - present > 1) {
      const std::size_t middle = present + (absent - present) / 2;
      (has(middle - 1) ? present : absent) = middle;
    }
  } while (present != 0 && present < blocks && has(present));
  return present;
}

}  // namespace kvfs
