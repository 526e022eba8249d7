#pragma once

#include <string>

#include "lib/format/result.h"

namespace kvfs {

// The directory and those above it, where they are missing. kPermission: this user may not make
// them; kIo.
Status make_directories(const std::string& path);

}  // namespace kvfs
