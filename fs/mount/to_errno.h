// The only place where errno values are made.
#pragma once

#include "lib/format/result.h"

namespace kvfs::mount {

// What the kernel edge refuses by itself, in the words of the operation rather than of the store.
enum class Refusal {
  kNotPermitted,  // the file system never does this to such a file
  kReadOnlyFile,  // a write mode on a file whose bytes never change
  kNotFound,
  kExists,
  kNotEmpty,
  kStale,           // the inode's object was replaced: the kernel walks the path again
  kNoAttribute,     // no such extended attribute
  kNotSupported,    // not on this kind of file, or not without passthrough
  kBufferTooSmall,  // the caller's buffer cannot take the attribute
  kBadMessage,      // a malformed ioctl or value
  kUnknownIoctl,
  kOtherAbi,         // HELLO of another version
  kTooLarge,         // a message or value over its limit
  kOverCapacity,     // more than the tier could ever hold
  kWrongDescriptor,  // not what this descriptor is for
  kCrossNamespace,   // a rename between two directories
  kIsDirectory,
  kNotDirectory,
  kInterrupted,
  kShuttingDown,
  kFault,  // an answer that was never given
};

int to_errno(Code code);
int to_errno(Refusal refusal);

}  // namespace kvfs::mount
