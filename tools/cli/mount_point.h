// Where the file system is, and which namespace an argument means.
#pragma once

#include <string>
#include <vector>

#include "lib/format/result.h"

namespace kvfs::cli {

// Where kvfs is mounted, in the order of mounting.
std::vector<std::string> kvfs_mounts();

// A mount point as the kernel lists it: absolute, without symlinks and dots. Of what does not
// answer, as a dead mount does not, symlinks stay: only the working directory is put before it, and
// dots are taken out.
std::string spelled_as_mounted(const std::string& given);

// Whether a call on a file of a mount failed because its daemon is ending or gone.
bool daemon_is_gone(int errno_value);

// The mount to work on: `given`, else $KVFS_MOUNT, else the only one there is. kNotFound: none, or
// not a kvfs mount; kInvalid: several; kUnavailable: its daemon is gone.
Result<std::string> find_mount(const std::string& given);

// Names of the namespaces (directories with .kvfs/geometry.json that the caller may read), sorted.
Result<std::vector<std::string>> namespace_names(const std::string& mount);
// `given` as it is, or all of them when it is empty.
Result<std::vector<std::string>> namespaces_or_all(const std::string& mount,
                                                   const std::vector<std::string>& given);
// `given`, checked, or the only namespace there is when `given` is empty.
Result<std::string> find_namespace(const std::string& mount, const std::string& given);

}  // namespace kvfs::cli
