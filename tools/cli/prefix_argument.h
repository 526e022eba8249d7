// Which prefix an argument means.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "lib/format/result.h"
#include "tools/cli/control_client.h"

namespace kvfs::cli {

struct NamedPrefix {
  std::string mount;
  std::string name_space;
  ControlClient control;  // the namespace's
  nlohmann::json stat;    // of the prefix (control.md)
};
// The argument is NAMESPACE/KEY, NAMESPACE/NAME, a path below a mount, or just KEY or NAME where
// there is one namespace only. The beginning of a key will do where it is unique among the listed
// prefixes. kInvalid: it is none of these, or several keys begin so.
Result<NamedPrefix> find_prefix(const std::string& mount_given, const std::string& argument);

}  // namespace kvfs::cli
