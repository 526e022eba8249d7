// Requests of /<namespace>/.kvfs/control.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "fs/mount/control_call.h"
#include "fs/mount/inode.h"

namespace kvfs::mount {

class FileSystem;

// Blocks: as long as the operation takes, but for `flush`.
void control_namespace(FileSystem& fs, const Inode& inode, const nlohmann::json& request,
                       const ControlRespond& respond);

}  // namespace kvfs::mount
