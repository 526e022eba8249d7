#pragma once

#include "fs/mount/config.h"

namespace kvfs::mount {

// The default logger: standard error, or log_file (appended to). libfuse's messages go there too.
Status set_up_log(const Config& config);

}  // namespace kvfs::mount
