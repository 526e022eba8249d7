// /proc/self/mountinfo, which answers without asking the mounted file system.
#pragma once

#include <string>
#include <vector>

namespace kvfs {

struct MountInfo {
  std::string device;  // "major:minor"
  std::string point;
  std::string type;     // "fuse.kvfs"
  std::string options;  // of the file system, not of the mount
};
// Mounts at exactly this path, the topmost last.
std::vector<MountInfo> mounts_at(const std::string& path);

}  // namespace kvfs
