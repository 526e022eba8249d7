// The daemon's life: locks, store, mount, service, and the way back.
#pragma once

#include "fs/mount/background.h"
#include "fs/mount/config.h"

namespace kvfs::mount {

// Runs until a signal, a control request or an unmount ends it. Returns the exit status
// (fs/exit_code.h).
int run_daemon(Config config, Background background);

}  // namespace kvfs::mount
