// Tokens from arguments, a file or standard input.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lib/format/key.h"
#include "lib/format/result.h"

namespace kvfs::cli {

// Whole numbers between blanks, commas or brackets; or JSON: a list, a list of one list, or an
// object with "tokens", "input_ids" or "prompt_token_ids". kInvalid names what is no token of 0 to
// 2^31 - 1.
Result<std::vector<Token>> parse_tokens(std::string_view text);

}  // namespace kvfs::cli
