#include "fs/exit_code.h"

namespace kvfs {

ExitCode exit_code_of(Code code) {
  switch (code) {
    case Code::kInvalid:
      return ExitCode::kUsage;
    case Code::kNotFound:
    case Code::kUnavailable:
      return ExitCode::kNotFound;
    case Code::kPermission:
      return ExitCode::kPermission;
    case Code::kExists:
    case Code::kMismatch:
    case Code::kNoSpace:
    case Code::kBusy:
      return ExitCode::kBusy;
    case Code::kCorrupt:
    case Code::kIo:
      return ExitCode::kIo;
    case Code::kTimeout:
      return ExitCode::kTimeout;
  }
  return ExitCode::kIo;
}

}  // namespace kvfs
