#include "lib/format/result.h"

#include <system_error>

namespace kvfs {

std::string_view code_name(Code code) {
  switch (code) {
    case Code::kInvalid:
      return "invalid";
    case Code::kNotFound:
      return "not_found";
    case Code::kExists:
      return "exists";
    case Code::kMismatch:
      return "mismatch";
    case Code::kPermission:
      return "permission";
    case Code::kNoSpace:
      return "no_space";
    case Code::kBusy:
      return "busy";
    case Code::kCorrupt:
      return "corrupt";
    case Code::kIo:
      return "io";
    case Code::kTimeout:
      return "timeout";
    case Code::kUnavailable:
      return "unavailable";
  }
  return "unknown";
}

tl::unexpected<Error> fail_errno(int errno_value, std::string_view what) {
  // Not strerror(): its buffer is shared between threads.
  return fail(Code::kIo, std::string(what) + ": " + std::generic_category().message(errno_value));
}

}  // namespace kvfs
