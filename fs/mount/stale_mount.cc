#include "fs/mount/stale_mount.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <thread>

#include "fs/mount_info.h"

namespace kvfs::mount {
namespace {

constexpr int kMostStacked = 64;
// How long what is mounted has to answer.
constexpr std::chrono::seconds kPatience{10};

enum class Daemon : std::uint8_t { kAnswers, kDead, kHangs };

// By statfs(2), which always asks the daemon; stat(2) may answer from the kernel's cache. A daemon
// that hangs holds whoever asks, perhaps even against SIGKILL, so a child does: without our
// descriptors, which somebody may be waiting to see closed.
Daemon ask(const std::string& mountpoint) {
  const pid_t child = ::fork();
  if (child < 0) return Daemon::kAnswers;
  if (child == 0) {
    ::close_range(0, ~0U, 0);
    struct statfs status {};
    ::_exit(::statfs(mountpoint.c_str(), &status) != 0 && errno == ENOTCONN ? 1 : 0);
  }
  const auto give_up = std::chrono::steady_clock::now() + kPatience;
  while (std::chrono::steady_clock::now() < give_up) {
    int status = 0;
    if (::waitpid(child, &status, WNOHANG) == child) {
      return WIFEXITED(status) && WEXITSTATUS(status) == 1 ? Daemon::kDead : Daemon::kAnswers;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  ::kill(child, SIGKILL);  // not waited for: it may outlive us
  return Daemon::kHangs;
}

// The number by which /sys/fs/fuse/connections knows it.
std::string connection_of(const MountInfo& mount) {
  return mount.device.substr(mount.device.find(':') + 1);
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
    const Daemon daemon = ask(mountpoint);
    if (daemon == Daemon::kDead) {
      spdlog::warn("{}: taking off the mount of a daemon that is gone", mountpoint);
      if (auto status = unmount(mountpoint); !status) return status;
      continue;
    }
    const auto mount = mount_at(mountpoint);
    if (daemon == Daemon::kHangs) {
      return fail(
          Code::kTimeout,
          fmt::format(
              "{0}: what is mounted there has not answered for {1} s: end its daemon (pgrep "
              "-af kvfsd; kill -9 PID) and start again; where that is no longer possible, "
              "umount -l {0}{2}",
              mountpoint, kPatience.count(),
              mount ? fmt::format("; processes that hang in it go on after echo 1 "
                                  "> /sys/fs/fuse/connections/{}/abort",
                                  connection_of(*mount))
                    : ""));
    }
    if (!mount || !mount->is_kvfs()) return {};
    return fail(Code::kBusy, fmt::format("{}: a kvfs is mounted there: stop it first (umount {})",
                                         mountpoint, mountpoint));
  }
  return fail(Code::kBusy, fmt::format("{}: more than {} dead mounts: unmount them by hand",
                                       mountpoint, kMostStacked));
}

}  // namespace kvfs::mount
