#include "fs/mount/to_errno.h"

#include <cerrno>

namespace kvfs::mount {

int to_errno(Code code) {
  switch (code) {
    case Code::kInvalid:
      return EINVAL;
    case Code::kNotFound:
      return ENOENT;
    case Code::kExists:
      return EEXIST;
    case Code::kMismatch:
      return EINVAL;
    case Code::kPermission:
      return EACCES;
    case Code::kNoSpace:
      return ENOSPC;
    case Code::kBusy:
      return EBUSY;
    case Code::kCorrupt:
    case Code::kIo:
      return EIO;
    case Code::kTimeout:
      return ETIMEDOUT;
    case Code::kUnavailable:
      return EOPNOTSUPP;
  }
  return EIO;
}

int to_errno(Refusal refusal) {
  switch (refusal) {
    case Refusal::kNotPermitted:
      return EPERM;
    case Refusal::kReadOnlyFile:
      return EACCES;
    case Refusal::kNotFound:
      return ENOENT;
    case Refusal::kExists:
      return EEXIST;
    case Refusal::kNotEmpty:
      return ENOTEMPTY;
    case Refusal::kStale:
      return ESTALE;
    case Refusal::kNoAttribute:
      return ENODATA;
    case Refusal::kNotSupported:
      return EOPNOTSUPP;
    case Refusal::kBufferTooSmall:
      return ERANGE;
    case Refusal::kBadMessage:
      return EINVAL;
    case Refusal::kUnknownIoctl:
      return ENOTTY;
    case Refusal::kOtherAbi:
      return EPROTO;
    case Refusal::kTooLarge:
      return E2BIG;
    case Refusal::kOverCapacity:
      return EDQUOT;
    case Refusal::kWrongDescriptor:
      return EBADF;
    case Refusal::kCrossNamespace:
      return EXDEV;
    case Refusal::kIsDirectory:
      return EISDIR;
    case Refusal::kNotDirectory:
      return ENOTDIR;
    case Refusal::kInterrupted:
      return EINTR;
    case Refusal::kShuttingDown:
      return ENODEV;
    case Refusal::kFault:
      return EIO;
  }
  return EIO;
}

}  // namespace kvfs::mount
