// Small readings of /proc and /sys.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace kvfs::cli {

// First line of a file, without the newline; nullopt when it cannot be read.
std::optional<std::string> first_line(const std::string& path);
// The word in brackets of "always [madvise] never".
std::string chosen_word(const std::string& line);
// A line "MemTotal:   24 kB" of /proc/meminfo, in bytes; 0 when it is not there.
std::uint64_t meminfo_bytes(const std::string& name);
// An effective capability of this process.
bool has_capability(unsigned number);
// Whether the running kernel was configured with `option` (=y or =m); nullopt when it does not say.
std::optional<bool> kernel_config(const std::string& option);

}  // namespace kvfs::cli
