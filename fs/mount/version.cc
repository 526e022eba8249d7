#include "fs/mount/version.h"

#include <fmt/format.h>

#include "lib/format/index_layout.h"
#include "lib/format/ioctls.h"

namespace kvfs::mount {

std::string version_text() {
  return fmt::format("kvfs {} (abi {}, index {})", KVFS_VERSION, kAbiVersion, kIndexVersion);
}

}  // namespace kvfs::mount
