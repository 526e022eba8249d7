#include "fs/mount/stale_mount.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "fs/mount_info.h"

namespace kvfs::mount {
namespace {

constexpr int kMostStacked = 64;

// By statfs(2), which always asks the daemon; stat(2) may answer from the kernel's cache.
bool is_dead(const std::string& mountpoint) {
  struct statfs status {};
  return ::statfs(mountpoint.c_str(), &status) != 0 && errno == ENOTCONN;
}

// Without root the setuid helper does it.
bool unmount_by_helper(const std::string& mountpoint) {
  const pid_t child = ::fork();
  if (child < 0) return false;
  if (child == 0) {
    ::execlp("fusermount3", "fusermount3", "-u", "-z", "-q", "--", mountpoint.c_str(), nullptr);
    ::_exit(127);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status == 0;
}

Status unmount(const std::string& mountpoint) {
  if (::umount2(mountpoint.c_str(), MNT_DETACH) == 0) return {};
  const int error = errno;
  if (error == EPERM && unmount_by_helper(mountpoint)) return {};
  return fail_errno(error, "taking off the dead mount on " + mountpoint);
}

}  // namespace

void detach_mount(const std::string& mountpoint) {
  ignore_error(unmount(mountpoint), "the next daemon takes off what is left");
}

Status clear_mountpoint(const std::string& mountpoint) {
  for (int i = 0; i < kMostStacked; ++i) {
    if (is_dead(mountpoint)) {
      spdlog::warn("{}: taking off the mount of a daemon that is gone", mountpoint);
      if (auto status = unmount(mountpoint); !status) return status;
      continue;
    }
    const auto mounts = mounts_at(mountpoint);
    if (mounts.empty() || mounts.back().type != "fuse.kvfs") return {};
    return fail(Code::kBusy, fmt::format("{}: a kvfs is mounted there: stop it first (umount {})",
                                         mountpoint, mountpoint));
  }
  return fail(Code::kBusy, fmt::format("{}: more than {} dead mounts: unmount them by hand",
                                       mountpoint, kMostStacked));
}

}  // namespace kvfs::mount
