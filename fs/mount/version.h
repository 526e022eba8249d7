#pragma once

#include <string>

namespace kvfs::mount {

// "kvfs 0.1.0 (abi 2, index 2)": program, ioctl and index versions.
std::string version_text();

}  // namespace kvfs::mount
