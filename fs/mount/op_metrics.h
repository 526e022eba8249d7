// Counts and times requests by operation.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "fs/histogram.h"

namespace kvfs::mount {

enum class Op : std::uint8_t {
  kLookup,
  kForget,
  kGetattr,
  kSetattr,
  kReadlink,
  kMkdir,
  kMknod,
  kUnlink,
  kRmdir,
  kSymlink,
  kRename,
  kLink,
  kOpen,
  kCreate,
  kRead,
  kWrite,
  kFlush,
  kRelease,
  kFsync,
  kOpendir,
  kReaddir,
  kReaddirplus,
  kFsyncdir,
  kStatfs,
  kSetxattr,
  kGetxattr,
  kListxattr,
  kRemovexattr,
  kIoctl,
  kFallocate,
};
inline constexpr std::array<std::string_view, 30> kOpNames{
    "lookup",   "forget",   "getattr",   "setattr",     "readlink", "mkdir",
    "mknod",    "unlink",   "rmdir",     "symlink",     "rename",   "link",
    "open",     "create",   "read",      "write",       "flush",    "release",
    "fsync",    "opendir",  "readdir",   "readdirplus", "fsyncdir", "statfs",
    "setxattr", "getxattr", "listxattr", "removexattr", "ioctl",    "fallocate"};
static_assert(static_cast<std::size_t>(Op::kFallocate) + 1 == kOpNames.size());

// Times are those of the handler; what a parked request waits is counted by ParkedRequests.
// Threads: any.
class OpMetrics {
 public:
  void observe(Op op, std::chrono::nanoseconds elapsed) {
    histograms_[static_cast<std::size_t>(op)].observe(elapsed);
  }
  [[nodiscard]] HistogramSnapshot snapshot(std::size_t op) const {
    return histograms_[op].snapshot();
  }

 private:
  std::array<Histogram, kOpNames.size()> histograms_;
};

}  // namespace kvfs::mount
