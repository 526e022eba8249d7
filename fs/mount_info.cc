#include "fs/mount_info.h"

#include <fstream>
#include <sstream>

namespace kvfs {
namespace {

// Blanks, tabs, newlines and backslashes are written as \ooo.
std::string unescape(const std::string& text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      const auto digit = [&](std::size_t at) { return text[i + at] - '0'; };
      plain += static_cast<char>(digit(1) * 64 + digit(2) * 8 + digit(3));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

}  // namespace

std::vector<MountInfo> mounts_in(std::istream& mountinfo) {
  std::vector<MountInfo> found;
  for (std::string line; std::getline(mountinfo, line);) {
    // "36 35 98:0 /root /mount/point options... - type source options"
    const std::size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::string id, parent, root, source;
    MountInfo mount;
    std::istringstream(line) >> id >> parent >> mount.device >> root >> mount.point;
    std::istringstream(line.substr(dash + 3)) >> mount.type >> source >> mount.options;
    mount.point = unescape(mount.point);
    found.push_back(std::move(mount));
  }
  return found;
}

std::vector<MountInfo> mounts() {
  std::ifstream file("/proc/self/mountinfo");
  return mounts_in(file);
}

std::optional<MountInfo> mount_at(const std::string& path) {
  std::optional<MountInfo> topmost;
  for (MountInfo& mount : mounts()) {
    if (mount.point == path) topmost = std::move(mount);
  }
  return topmost;
}

}  // namespace kvfs
