#include "fs/mount/snapshots.h"

#include <nlohmann/json.hpp>

#include "fs/mount/file_system.h"
#include "fs/mount/metrics_text.h"
#include "fs/mount/stats_json.h"
#include "fs/mount/version.h"
#include "lib/format/json_text.h"

namespace kvfs::mount {

std::string snapshot(FileSystem& fs, const Inode& inode) {
  switch (inode.kind()) {
    case InodeKind::kVersion:
      return version_text() + "\n";
    case InodeKind::kConfig:
      return config_toml(fs.config());
    case InodeKind::kStoreStats:
      return json_text(store_stats_json(fs), 2) + "\n";
    case InodeKind::kMetrics:
      return metrics_text(fs);
    case InodeKind::kGeometry:
      return to_json(inode.ns->geometry()).dump(2) + "\n";
    case InodeKind::kNamespaceStats:
      return json_text(namespace_stats_json(*inode.ns), 2) + "\n";
    default:
      return {};
  }
}

std::uint64_t static_snapshot_bytes(FileSystem& fs, const Inode& inode) {
  switch (inode.kind()) {
    case InodeKind::kVersion:
    case InodeKind::kConfig:
    case InodeKind::kGeometry:
      return snapshot(fs, inode).size();
    default:
      return 0;
  }
}

}  // namespace kvfs::mount
