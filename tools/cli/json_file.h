// Reading JSON from a file or, for "-", from standard input.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "lib/format/result.h"

namespace kvfs::cli {

// The whole content. kNotFound, kPermission, kIo; kUnavailable: it is the file of a daemon that is
// gone.
Result<std::string> read_text(const std::string& path);
// kInvalid names the place where the text stops being JSON.
Result<nlohmann::json> read_json(const std::string& path);

}  // namespace kvfs::cli
