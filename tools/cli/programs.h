// The programs that belong to kvfs, and running them.
#pragma once

#include <string>
#include <vector>

#include "lib/format/result.h"

namespace kvfs::cli {

// Beside this executable, else in ../sbin, ../libexec/kvfs, else in PATH. kNotFound names them.
Result<std::string> find_program(const std::string& name);

// Runs to the end with this process's standard streams. Returns the exit status (128 + signal when
// one ended it).
Result<int> run_program(const std::string& path, const std::vector<std::string>& arguments);

}  // namespace kvfs::cli
