// What is mounted on the mountpoint already.
#pragma once

#include <string>

#include "lib/format/result.h"

namespace kvfs::mount {

// Makes the mountpoint free: a mount left by a dead daemon is taken off (lazily: others may have
// files of it open). kBusy: a living kvfs is mounted there.
Status clear_mountpoint(const std::string& mountpoint);

}  // namespace kvfs::mount
