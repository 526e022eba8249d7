#pragma once

#include "fs/mount/fuse_api.h"
#include "fs/store/store.h"

namespace kvfs::mount {

// Answers a read with memory where it lies: the only copy is the kernel's.
void reply_pieces(fuse_req_t req, const store::ReadPlan& plan);

}  // namespace kvfs::mount
