#include "fs/mount/privilege.h"

#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>

namespace kvfs::mount {
namespace {

constexpr unsigned kSysAdmin = 21;  // CAP_SYS_ADMIN of linux/capability.h

bool has_capability() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with("CapEff:")) continue;
    return (std::stoull(line.substr(7), nullptr, 16) >> kSysAdmin & 1) != 0;
  }
  return false;
}

// The initial user namespace maps every id to itself.
bool in_initial_namespace() {
  std::ifstream map("/proc/self/uid_map");
  std::uint64_t inside = 1;
  std::uint64_t outside = 1;
  std::uint64_t count = 0;
  map >> inside >> outside >> count;
  return inside == 0 && outside == 0 && count == 0xffffffffULL;
}

}  // namespace

bool may_pass_through() { return has_capability() && in_initial_namespace(); }

}  // namespace kvfs::mount
