// What is mounted on the mountpoint already.
#pragma once

#include <string>

#include "lib/format/result.h"

namespace kvfs::mount {

// Makes the mountpoint free: a mount left by a dead daemon is taken off (lazily: others may have
// files of it open). kBusy: a living kvfs is mounted there. kTimeout: its daemon hangs.
Status clear_mountpoint(const std::string& mountpoint);

// Takes it off (lazily) although the daemon lives: the way out for one that cannot end in order.
void detach_mount(const std::string& mountpoint);

}  // namespace kvfs::mount
