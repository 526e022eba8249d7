// Names in a directory, and the numbers in them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/format/result.h"

namespace kvfs::tiers {

// All names but "." and "..", in no order. `directory` is an open directory.
Result<std::vector<std::string>> names_in(int directory);

// A decimal number without sign, blanks or leading zeros that is all of `text`.
std::optional<std::uint32_t> number_of(std::string_view text);

}  // namespace kvfs::tiers
