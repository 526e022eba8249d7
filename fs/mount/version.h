#pragma once

#include <string>

namespace kvfs::mount {

// "kvfs 0.1.0 (abi 1, index 1)": program, ioctl and index versions.
std::string version_text();

}  // namespace kvfs::mount
