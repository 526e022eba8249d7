// From errno to Error, from Error to the C API's status.
#pragma once

#include <exception>
#include <new>
#include <string>
#include <string_view>

#include <kvfs/kvfs.h>

#include "lib/format/result.h"

namespace kvfs::client {

// What a failed system call on a mount means. `what` names the call's object ("prefix 3f2a...").
tl::unexpected<Error> mount_error(int errno_value, std::string_view what);
// Of a call that waits for blocks, or reads them: where the daemon's disk did not give one, or it
// failed its checksum, that is kCorrupt.
tl::unexpected<Error> block_error(int errno_value, std::string_view what);

kvfs_status to_status(Code code);
// Keeps the sentence for kvfs_last_error and returns the status.
kvfs_status report(const Error& error);
kvfs_status report_forked(std::string_view object);
const char* last_error();

// What an exception of a library below is to callers.
inline Error unexpected(const std::exception& error) {
  return {Code::kIo, std::string("an unexpected error in libkvfs: ") + error.what()};
}

// The body of a C function: no exception leaves it.
template <typename Body>
kvfs_status guarded(Body&& body) noexcept {
  try {
    const Status status = body();
    return status ? KVFS_OK : report(status.error());
  } catch (const std::bad_alloc&) {
    return report({Code::kIo, "out of memory: the call was given up, nothing was changed"});
  } catch (const std::exception& error) {
    return report(unexpected(error));
  }
}

}  // namespace kvfs::client
