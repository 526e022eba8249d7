// doctor: what the kernel offers.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "fs/unique_fd.h"
#include "tools/cli/doctor.h"
#include "tools/cli/system_facts.h"

namespace kvfs::cli {
namespace {

struct KernelVersion {
  int major = 0, minor = 0;
  [[nodiscard]] bool at_least(int wanted_major, int wanted_minor) const {
    return major > wanted_major || (major == wanted_major && minor >= wanted_minor);
  }
};

KernelVersion check_version(Checks& checks) {
  utsname system{};
  ::uname(&system);
  KernelVersion version;
  std::sscanf(system.release, "%d.%d", &version.major, &version.minor);
  Check check{.name = "kernel", .found = fmt::format("{} {}", system.sysname, system.release)};
  if (!version.at_least(5, 19)) {
    check.level = Level::kBad;
    check.remedy =
        "5.19 is the oldest that has the io_uring operations used here: update the kernel";
  } else if (!version.at_least(6, 9)) {
    check.level = Level::kWarn;
    check.remedy = "6.9 brought FUSE passthrough: until then clients copy through read(2)";
  }
  checks.push_back(check);
  return version;
}

void check_fuse(Checks& checks) {
  Check check{.name = "fuse device"};
  const UniqueFd device(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (device.valid()) {
    check.found = "/dev/fuse opens";
  } else {
    check.level = Level::kBad;
    check.found = fmt::format("/dev/fuse: {}", std::strerror(errno));
    check.remedy =
        errno == ENOENT || errno == ENODEV
            ? "load the module: modprobe fuse (in a container: --device /dev/fuse)"
            : "give this user access: --device /dev/fuse in a container, mode 0666 outside";
  }
  checks.push_back(check);
}

void check_passthrough(Checks& checks, const KernelVersion& version) {
  Check check{.name = "passthrough"};
  const std::optional<bool> configured = kernel_config("CONFIG_FUSE_PASSTHROUGH");
  if (!version.at_least(6, 9) || configured == false) {
    check.level = Level::kWarn;
    check.found = "not in this kernel";
    check.remedy =
        "use a kernel >= 6.9 with CONFIG_FUSE_PASSTHROUGH=y; until then clients copy through "
        "read(2)";
  } else if (!has_capability(CAP_SYS_ADMIN)) {
    check.level = Level::kWarn;
    check.found = "in this kernel, but not for this user";
    check.remedy =
        "run kvfsd as root or with CAP_SYS_ADMIN; until then clients copy through read(2)";
  } else {
    check.found = configured ? "CONFIG_FUSE_PASSTHROUGH=y, CAP_SYS_ADMIN"
                             : "CAP_SYS_ADMIN; the kernel's configuration is not to be read here";
  }
  checks.push_back(check);
}

void check_max_pages(Checks& checks) {
  const auto line = first_line("/proc/sys/fs/fuse/max_pages_limit");
  if (!line) return;  // before 6.13
  Check check{.name = "fuse request size",
              .found = fmt::format("fs.fuse.max_pages_limit = {}", *line)};
  if (std::strtoul(line->c_str(), nullptr, 10) < 1024) {
    check.level = Level::kNote;
    check.remedy =
        "read(2) of prefix files gains a little from 4 MiB requests: sysctl "
        "fs.fuse.max_pages_limit=1024, "
        "or kvfsd --raise-max-pages";
  }
  checks.push_back(check);
}

void check_uring(Checks& checks) {
  Check check{.name = "io_uring"};
  io_uring_params parameters{};
  const UniqueFd ring(static_cast<int>(::syscall(SYS_io_uring_setup, 1U, &parameters)));
  if (ring.valid()) {
    check.found = "available";
  } else {
    const auto disabled = first_line("/proc/sys/kernel/io_uring_disabled");
    check.level = Level::kBad;
    check.found = fmt::format("{}{}", std::strerror(errno),
                              disabled && *disabled != "0"
                                  ? fmt::format(", kernel.io_uring_disabled = {}", *disabled)
                                  : "");
    check.remedy =
        "the NVMe tier needs it: sysctl kernel.io_uring_disabled=0, and a container's seccomp "
        "profile must let it pass";
  }
  checks.push_back(check);
}

}  // namespace

void check_kernel(Checks& checks) {
  const KernelVersion version = check_version(checks);
  check_fuse(checks);
  check_passthrough(checks, version);
  check_max_pages(checks);
  check_uring(checks);
}

}  // namespace kvfs::cli
