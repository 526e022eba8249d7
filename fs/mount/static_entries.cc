#include "fs/mount/static_entries.h"

#include <array>

namespace kvfs::mount {
namespace {

constexpr std::array kStoreEntries{
    StaticEntry{"version", InodeKind::kVersion}, StaticEntry{"config.toml", InodeKind::kConfig},
    StaticEntry{"stats.json", InodeKind::kStoreStats}, StaticEntry{"metrics", InodeKind::kMetrics},
    StaticEntry{"control", InodeKind::kStoreControl}};
constexpr std::array kNamespaceEntries{StaticEntry{"geometry.json", InodeKind::kGeometry},
                                       StaticEntry{"stats.json", InodeKind::kNamespaceStats},
                                       StaticEntry{"index", InodeKind::kIndex},
                                       StaticEntry{"slabs", InodeKind::kSlabs},
                                       StaticEntry{"reserve", InodeKind::kReserve},
                                       StaticEntry{"control", InodeKind::kControl}};

}  // namespace

std::span<const StaticEntry> static_entries(InodeKind directory) {
  switch (directory) {
    case InodeKind::kStoreMeta:
      return kStoreEntries;
    case InodeKind::kMeta:
      return kNamespaceEntries;
    default:
      return {};
  }
}

}  // namespace kvfs::mount
