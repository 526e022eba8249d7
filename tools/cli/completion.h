// Shell completion, written from the options the command really has.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "lib/format/result.h"

namespace kvfs::cli {

// `shell` is bash, zsh or fish (kInvalid otherwise).
Result<std::string> completion_script(const CLI::App& app, const std::string& shell);

}  // namespace kvfs::cli
