// What becomes of numbers in a quantized namespace, by the library's own code. (Apart from the
// tests, since the library's errors and the C++ API's have one name.)
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "tests/lib/client/canonical_cache.h"

namespace kvfs::test {

// By hand, of a head: 10 scales and 10 errors of 4 bytes, to 128; 10 planes of 1024 numbers.
constexpr std::size_t kErrorsAt = 40, kNumbersAt = 128, kHeadBytes = 10368;

struct Expected {
  std::vector<std::byte> heads;  // as they are stored
  Values loaded;                 // as an engine gets them back
  float largest_error = 0;
};
Expected expected_of(const Values& canonical, const std::string& encoding);

}  // namespace kvfs::test
