#include "tools/cli/mount_point.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "fs/mount_info.h"

namespace kvfs::cli {
namespace {

namespace fs = std::filesystem;

Status check_alive(const std::string& mount) {
  std::error_code error;
  // Namespaces have a .kvfs as well, but no version.
  if (fs::exists(fs::path(mount) / ".kvfs" / "version", error)) return {};
  if (daemon_is_gone(error.value())) {
    return fail(Code::kUnavailable,
                fmt::format("the daemon of {} is gone: run kvfs umount {} and mount it again",
                            mount, mount));
  }
  if (error == std::errc::permission_denied) {
    return fail(Code::kPermission, fmt::format("{} may not be read by this user: ask its owner, or "
                                               "mount it with --allow-other",
                                               mount));
  }
  return fail(
      Code::kNotFound,
      fmt::format("{} is not a kvfs mount: give one by --mount, or mount it with kvfs mount {}",
                  mount, mount));
}

}  // namespace

std::vector<std::string> kvfs_mounts() {
  std::vector<std::string> points;
  for (MountInfo& mount : mounts()) {
    if (mount.is_kvfs()) points.push_back(std::move(mount.point));
  }
  return points;
}

std::string spelled_as_mounted(const std::string& given) {
  std::error_code error;
  fs::path path = fs::canonical(given, error);
  if (error) path = fs::absolute(given, error).lexically_normal();  // of a dead mount: no such call
  std::string mount = path.string();
  while (mount.size() > 1 && mount.back() == '/') mount.pop_back();
  return mount;
}

bool daemon_is_gone(int errno_value) {
  return errno_value == ENOTCONN || errno_value == ECONNABORTED || errno_value == ENODEV;
}

Result<std::string> find_mount(const std::string& given) {
  std::string mount = given;
  const char* variable = std::getenv("KVFS_MOUNT");
  if (mount.empty() && variable != nullptr) mount = variable;
  if (mount.empty()) {
    const std::vector<std::string> mounts = kvfs_mounts();
    if (mounts.empty()) {
      return fail(
          Code::kNotFound,
          "there is no kvfs mount here: make one with kvfs mount DIR, or name it with --mount");
    }
    if (mounts.size() > 1) {
      return fail(Code::kInvalid,
                  fmt::format("there are {} kvfs mounts ({}): choose one with --mount DIR or "
                              "KVFS_MOUNT",
                              mounts.size(), fmt::join(mounts, ", ")));
    }
    mount = mounts.front();
  }
  mount = spelled_as_mounted(mount);
  if (Status status = check_alive(mount); !status) return pass(std::move(status));
  return mount;
}

Result<std::vector<std::string>> namespace_names(const std::string& mount) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator at(mount, error), end; !error && at != end; at.increment(error)) {
    std::error_code ignored;  // a directory that this user may not enter is not his to see
    if (fs::exists(at->path() / ".kvfs" / "geometry.json", ignored)) {
      names.push_back(at->path().filename().string());
    }
  }
  if (error) {
    return fail(daemon_is_gone(error.value()) ? Code::kUnavailable : Code::kIo,
                fmt::format("{} cannot be listed: {}", mount, error.message()));
  }
  std::ranges::sort(names);
  return names;
}

Result<std::vector<std::string>> namespaces_or_all(const std::string& mount,
                                                   const std::vector<std::string>& given) {
  if (given.empty()) return namespace_names(mount);
  return given;
}

Result<std::string> find_namespace(const std::string& mount, const std::string& given) {
  std::error_code error;
  if (!given.empty()) {
    const fs::path geometry = fs::path(mount) / given / ".kvfs" / "geometry.json";
    if (given.find('/') == std::string::npos && fs::exists(geometry, error)) return given;
    if (error == std::errc::permission_denied) {
      return fail(Code::kPermission,
                  fmt::format("namespace {} of {} may not be read by this user", given, mount));
    }
    return fail(Code::kNotFound,
                fmt::format("{} has no namespace {}: kvfs ns list shows those there "
                            "are, kvfs ns create makes one",
                            mount, given));
  }
  Result<std::vector<std::string>> names = namespace_names(mount);
  if (!names) return pass(std::move(names));
  if (names->empty()) {
    return fail(Code::kNotFound,
                fmt::format("{} has no namespace yet: make one with kvfs ns create", mount));
  }
  if (names->size() > 1) {
    return fail(Code::kInvalid, fmt::format("{} has {} namespaces ({}): name one", mount,
                                            names->size(), fmt::join(*names, ", ")));
  }
  return names->front();
}

}  // namespace kvfs::cli
