// libkvfs as the commands use it: Results instead of status codes.
#pragma once

#include <kvfs/kvfs.h>

#include <memory>
#include <string>

#include "lib/format/result.h"

namespace kvfs::cli {

// The status with the library's sentence of this thread's last call.
Status check(kvfs_status status);

struct CloseClient {
  void operator()(kvfs_client* client) const { kvfs_close(client); }
};
using ClientPtr = std::unique_ptr<kvfs_client, CloseClient>;

// Read-only.
Result<ClientPtr> open_client(const std::string& mount, const std::string& name);

}  // namespace kvfs::cli
