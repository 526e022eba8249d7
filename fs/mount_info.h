// /proc/self/mountinfo, which answers without asking the mounted file system.
#pragma once

#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

namespace kvfs {

struct MountInfo {
  std::string device;  // "major:minor"
  std::string point;
  std::string type;
  std::string options;  // of the file system, not of the mount
  [[nodiscard]] bool is_kvfs() const { return type == "fuse.kvfs"; }
};

// Of a file like that one, in the order of mounting; a line that is none of a mount is skipped.
std::vector<MountInfo> mounts_in(std::istream& mountinfo);
std::vector<MountInfo> mounts();
// The topmost of those at exactly this path.
std::optional<MountInfo> mount_at(const std::string& path);

}  // namespace kvfs
