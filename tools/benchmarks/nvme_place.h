#pragma once

#include <string>

#include "lib/format/result.h"

namespace kvfs::bench {

// The directory above the first NVMe directory of the mount's daemon, for fio's file.
// kNotFound: the mount has no NVMe tier.
Result<std::string> nvme_place(const std::string& mount);

}  // namespace kvfs::bench
