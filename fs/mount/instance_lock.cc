#include "fs/mount/instance_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>

#include <array>
#include <cerrno>
#include <filesystem>

namespace kvfs::mount {
namespace {

std::string owner_of(int fd) {
  std::array<char, 32> text{};
  const ssize_t n = ::pread(fd, text.data(), text.size() - 1, 0);
  std::string pid(text.data(), n > 0 ? static_cast<std::size_t>(n) : 0);
  while (!pid.empty() && pid.back() == '\n') pid.pop_back();
  return pid.empty() ? "another process" : "process " + pid;
}

}  // namespace

Result<InstanceLock> InstanceLock::take(const std::string& path, const std::string& what) {
  const auto directory = std::filesystem::path(path).parent_path();
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error)
    return fail(Code::kIo, fmt::format("creating {}: {}", directory.string(), error.message()));
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd.valid()) return fail_errno(errno, "opening " + path);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return fail_errno(errno, "locking " + path);
    return fail(
        Code::kBusy,
        fmt::format(
            "{} is used by a kvfsd already ({}): stop it, or give this one directories of its own",
            what, owner_of(fd.get())));
  }
  const std::string pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(fd.get(), 0) != 0 || ::pwrite(fd.get(), pid.data(), pid.size(), 0) < 0) {
    return fail_errno(errno, "writing " + path);
  }
  return InstanceLock(std::move(fd));
}

}  // namespace kvfs::mount
