// Exit codes of kvfs and kvfsd; tools/cli/README.md lists them for users.
#pragma once

#include "lib/format/result.h"

namespace kvfs {

enum class ExitCode : int {
  kOk = 0,
  kNo = 1,        // the answer is no (a miss) or bad (a block failed its checksum, a check failed)
  kUsage = 2,     // an option, an argument or an input file is wrong
  kNotFound = 3,  // no such mount, namespace or prefix; the daemon is gone
  kPermission = 4,  // the caller may not
  kBusy = 5,        // leased, pinned, full, or there already with other content
  kIo = 6,          // the operating system or the data said no
  kTimeout = 7,
};

ExitCode exit_code_of(Code code);

}  // namespace kvfs
