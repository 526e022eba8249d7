#include "fs/mount/instance_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <string_view>
#include <thread>

#include "fs/make_directories.h"

namespace kvfs::mount {
namespace {

constexpr std::string_view kEnding = "ending";

struct Owner {
  std::string process;
  bool ending;
};

// The file has "PID" or "PID ending".
Owner owner_of(int fd) {
  std::array<char, 64> text{};
  const ssize_t n = ::pread(fd, text.data(), text.size() - 1, 0);
  const std::string said(text.data(), n > 0 ? static_cast<std::size_t>(n) : 0);
  const std::string pid = said.substr(0, said.find_first_of(" \n"));
  return {.process = pid.empty() ? "another process" : "process " + pid,
          .ending = said.find(kEnding) != std::string::npos};
}

Status write_owner(int fd, const std::string& text) {
  if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, text.data(), text.size(), 0) < 0) {
    return fail_errno(errno, "writing a lock file");
  }
  return {};
}

// false: another one has it.
Result<bool> try_lock(int fd) {
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return true;
  if (errno != EWOULDBLOCK) return fail_errno(errno, "locking a lock file");
  return false;
}

}  // namespace

Result<InstanceLock> InstanceLock::take(const std::string& path, const std::string& what,
                                        std::chrono::milliseconds wait) {
  const auto directory = std::filesystem::path(path).parent_path();
  if (auto made = make_directories(directory); !made) return pass(std::move(made));
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd.valid() && errno == EACCES)
    return fail(Code::kPermission, fmt::format("{} may not be opened by this user", path));
  if (!fd.valid()) return fail_errno(errno, "opening " + path);
  const auto deadline = std::chrono::steady_clock::now() + wait;
  bool told = false;
  for (;;) {
    auto locked = try_lock(fd.get());
    if (!locked) return pass(std::move(locked));
    if (*locked) break;
    const Owner owner = owner_of(fd.get());
    if (!owner.ending || std::chrono::steady_clock::now() > deadline) {
      return fail(Code::kBusy, fmt::format("{} is used by a kvfsd already ({}{}): stop it, or give "
                                           "this one directories of its own",
                                           what, owner.process, owner.ending ? ", ending" : ""));
    }
    if (!told)
      spdlog::info("{}: waiting for the end of the kvfsd before ({})", what, owner.process);
    told = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  if (auto status = write_owner(fd.get(), fmt::format("{}\n", ::getpid())); !status)
    return pass(std::move(status));
  return InstanceLock(std::move(fd));
}

void InstanceLock::ending() {
  if (auto status = write_owner(fd_.get(), fmt::format("{} {}\n", ::getpid(), kEnding)); !status)
    spdlog::warn("{}", status.error().message);
}

}  // namespace kvfs::mount
