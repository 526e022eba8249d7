#include "lib/client/errors.h"

#include <cerrno>
#include <system_error>

namespace kvfs::client {
namespace {

thread_local std::string last;

}  // namespace

tl::unexpected<Error> mount_error(int errno_value, std::string_view what) {
  const std::string name(what);
  switch (errno_value) {
    case ENOENT:
      return fail(Code::kNotFound, name + " is not there (any more)");
    case EEXIST:
      return fail(Code::kExists, name + " is there already");
    case EACCES:
    case EPERM:
    case EROFS:
      return fail(
          Code::kPermission,
          name + ": permission denied: the namespace's directory and its mode decide who may");
    case ENOSPC:
      return fail(Code::kNoSpace, name +
                                      ": the DRAM tier is full and nothing in it may leave: "
                                      "release leases, unpin, or give the daemon more --dram");
    case EDQUOT:
      return fail(Code::kNoSpace, name +
                                      ": more than the DRAM tier can ever hold: store fewer "
                                      "blocks at a time, or give the daemon more --dram");
    case EBUSY:
      return fail(Code::kBusy, name + " is in use");
    case EIO:
      return fail(Code::kIo, name + ": the daemon could not do it, its log says why");
    case ETIMEDOUT:
      return fail(Code::kTimeout, name + ": the deadline passed");
    case EINVAL:
    case E2BIG:
    case EBADF:
      return fail(Code::kInvalid, name + ": the daemon refused the request: " +
                                      std::generic_category().message(errno_value));
    case EPROTO:
      return fail(Code::kMismatch,
                  name + " is served by a daemon of another version: use one release for both");
    case ENOTCONN:
    case ECONNABORTED:
    case ECONNREFUSED:
    case ESTALE:
    case ENODEV:
    case ENXIO:
      return fail(Code::kUnavailable, name +
                                          ": the daemon is gone: treat it as a miss; the "
                                          "client tries again by itself");
    case EOPNOTSUPP:
      return fail(Code::kUnavailable, name + ": this mount cannot do it");
    default:
      return fail_errno(errno_value, what);
  }
}

tl::unexpected<Error> block_error(int errno_value, std::string_view what) {
  if (errno_value != EIO) return mount_error(errno_value, what);
  return fail(Code::kCorrupt, std::string(what) +
                                  ": a block could not be read or failed its checksum and was "
                                  "dropped: compute it again");
}

kvfs_status to_status(Code code) {
  switch (code) {
    case Code::kInvalid:
      return KVFS_INVALID;
    case Code::kNotFound:
      return KVFS_NOT_FOUND;
    case Code::kExists:
      return KVFS_EXISTS;
    case Code::kMismatch:
      return KVFS_MISMATCH;
    case Code::kPermission:
      return KVFS_PERMISSION;
    case Code::kNoSpace:
      return KVFS_NO_SPACE;
    case Code::kBusy:
      return KVFS_BUSY;
    case Code::kCorrupt:
      return KVFS_CORRUPT;
    case Code::kIo:
      return KVFS_IO;
    case Code::kTimeout:
      return KVFS_TIMEOUT;
    case Code::kUnavailable:
      return KVFS_UNAVAILABLE;
  }
  return KVFS_IO;
}

kvfs_status report(const Error& error) {
  last = error.message;
  return to_status(error.code);
}

kvfs_status report_forked(std::string_view object) {
  last = "this " + std::string(object) +
         " belongs to the process that forked this one: open the namespace again in the child";
  return KVFS_FORKED;
}

const char* last_error() { return last.c_str(); }

}  // namespace kvfs::client
