// Requests of /<namespace>/.kvfs/control.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>

#include "fs/mount/inode.h"

namespace kvfs::mount {

class FileSystem;

// Blocks: as long as the operation takes.
nlohmann::json control_namespace(FileSystem& fs, const Inode& inode, const nlohmann::json& request,
                                 std::function<void()>& after);

}  // namespace kvfs::mount
