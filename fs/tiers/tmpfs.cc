#include "fs/tiers/tmpfs.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "fs/mount_info.h"
#include "fs/unique_fd.h"

namespace kvfs::tiers {
namespace {

bool is_huge(const MountInfo& mount) {
  return mount.options.find("huge=always") != std::string::npos;
}

Status make_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return {};
  return fail_errno(errno, fmt::format("making {}", path));
}

// Mounts, or resizes what is mounted; the kernel may lack huge pages on tmpfs.
int mount_sized(const std::string& path, std::uint64_t bytes, unsigned long flags) {
  const std::string size = fmt::format("mode=0700,size={}", bytes);
  const unsigned long all = flags | MS_NOSUID | MS_NODEV | MS_NOEXEC;
  if (::mount("kvfs", path.c_str(), "tmpfs", all, ("huge=always," + size).c_str()) == 0) return 0;
  if (errno != EINVAL) return errno;
  return ::mount("kvfs", path.c_str(), "tmpfs", all, size.c_str()) == 0 ? 0 : errno;
}

Status check_private(int fd, const std::string& path) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return fail_errno(errno, fmt::format("stat of {}", path));
  if (info.st_uid != ::geteuid()) {
    return fail(Code::kPermission,
                fmt::format("{} belongs to user {}, not to {}; remove it or give "
                            "another directory",
                            path, info.st_uid, ::geteuid()));
  }
  if ((info.st_mode & 07777) != 0700) {
    return fail(
        Code::kPermission,
        fmt::format("{} has mode {:04o}: others may have been in it; remove it, or set 0700 "
                    "if you trust what is there",
                    path, info.st_mode & 07777));
  }
  return {};
}

Result<PrivateTmpfs> prepare_mounted(const TmpfsOptions& options, const MountInfo& mount) {
  if (mount.type != "tmpfs") {
    return fail(Code::kMismatch, fmt::format("a {} is mounted at {}, where the DRAM tier's tmpfs "
                                             "should be; unmount it or give another directory",
                                             mount.type, options.mount_point));
  }
  UniqueFd fd(::open(options.mount_point.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return fail_errno(errno, fmt::format("opening {}", options.mount_point));
  if (auto mine = check_private(fd.get(), options.mount_point); !mine) return pass(std::move(mine));
  // EINVAL: more is in it than `bytes`; the DRAM tier will shed what does not fit its capacity.
  const int error = mount_sized(options.mount_point, options.bytes, MS_REMOUNT);
  if (error != 0 && error != EINVAL && error != EPERM) {
    return fail_errno(error, fmt::format("resizing the tmpfs at {}", options.mount_point));
  }
  return PrivateTmpfs{.path = options.mount_point, .mounted = true, .huge = is_huge(mount)};
}

Result<PrivateTmpfs> prepare_fallback(const std::string& path) {
  const bool there = ::access(path.c_str(), F_OK) == 0;
  if (auto made = make_directory(path); !made) return pass(std::move(made));
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) {
    if (errno == ELOOP || errno == ENOTDIR || errno == EACCES) {
      return fail(Code::kPermission,
                  fmt::format("{} is a link, a file, or somebody else's; remove it", path));
    }
    return fail_errno(errno, fmt::format("opening {}", path));
  }
  if (auto mine = check_private(fd.get(), path); !mine) return pass(std::move(mine));
  return PrivateTmpfs{.path = path, .made = !there};
}

}  // namespace

Result<PrivateTmpfs> prepare_private_tmpfs(const TmpfsOptions& given) {
  TmpfsOptions options = given;
  std::error_code error_code;
  // As mountinfo spells it.
  options.mount_point = std::filesystem::weakly_canonical(given.mount_point, error_code);
  if (error_code) return fail_errno(error_code.value(), "resolving " + given.mount_point);
  if (const auto mount = mount_at(options.mount_point)) return prepare_mounted(options, *mount);
  if (::geteuid() != 0) return prepare_fallback(options.fallback);
  if (auto made = make_directory(options.mount_point); !made) return pass(std::move(made));
  const int error = mount_sized(options.mount_point, options.bytes, 0);
  if (error == EPERM) return prepare_fallback(options.fallback);  // root of a container
  if (error != 0) {
    return fail_errno(error, fmt::format("mounting a tmpfs at {}", options.mount_point));
  }
  const auto mount = mount_at(options.mount_point);
  return PrivateTmpfs{
      .path = options.mount_point, .mounted = true, .huge = mount && is_huge(*mount), .made = true};
}

Status remove_private_tmpfs(const PrivateTmpfs& tmpfs) {
  if (tmpfs.mounted) {
    if (::umount2(tmpfs.path.c_str(), UMOUNT_NOFOLLOW) != 0) {
      if (errno == EBUSY) {
        return fail(Code::kBusy, fmt::format("{} is in use and stays mounted", tmpfs.path));
      }
      return fail_errno(errno, fmt::format("unmounting {}", tmpfs.path));
    }
    ::rmdir(tmpfs.path.c_str());
    return {};
  }
  std::error_code error;
  std::filesystem::remove_all(tmpfs.path, error);
  if (error) return fail_errno(error.value(), fmt::format("removing {}", tmpfs.path));
  return {};
}

}  // namespace kvfs::tiers
