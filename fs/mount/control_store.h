// Requests of /.kvfs/control.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>

#include "fs/mount/inode.h"

namespace kvfs::mount {

class FileSystem;

// Blocks: as long as the operation takes. `after` runs once the answer has reached the caller.
nlohmann::json control_store(FileSystem& fs, const Inode& inode, const nlohmann::json& request,
                             std::function<void()>& after);

}  // namespace kvfs::mount
