// Requests to a control file (lib/format/control.md).
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "lib/format/result.h"

namespace kvfs::client {

// One request to the file `path` below `directory` and its answer; an answer that says no becomes
// the Error it carries. Blocks as long as the operation takes.
Result<nlohmann::json> control_request(int directory, const char* path,
                                       const nlohmann::json& request);

}  // namespace kvfs::client
