#include "fs/mount_info.h"

#include <fstream>
#include <sstream>

namespace kvfs {
namespace {

// Blanks and the like are written as \040.
std::string unescape(const std::string& text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      plain += static_cast<char>(std::stoi(text.substr(i + 1, 3), nullptr, 8));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

}  // namespace

std::vector<MountInfo> mounts_at(const std::string& path) {
  std::vector<MountInfo> found;
  std::ifstream file("/proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    std::istringstream fields(line);
    std::string id, parent, root;
    MountInfo mount;
    fields >> id >> parent >> mount.device >> root >> mount.point;
    mount.point = unescape(mount.point);
    const std::size_t dash = line.find(" - ");
    if (mount.point != path || dash == std::string::npos) continue;
    std::string source;
    std::istringstream(line.substr(dash + 3)) >> mount.type >> source >> mount.options;
    found.push_back(std::move(mount));
  }
  return found;
}

}  // namespace kvfs
