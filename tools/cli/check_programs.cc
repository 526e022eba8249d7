// doctor: kvfs's own programs and those it calls.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <memory>

#include "tools/cli/doctor.h"
#include "tools/cli/programs.h"

namespace kvfs::cli {
namespace {

struct ClosePipe {
  void operator()(std::FILE* pipe) const { ::pclose(pipe); }
};

std::string version_line(const std::string& program) {
  const std::unique_ptr<std::FILE, ClosePipe> pipe(
      ::popen(("'" + program + "' --version 2>/dev/null").c_str(), "r"));
  char line[256] = "";
  if (!pipe || std::fgets(line, sizeof line, pipe.get()) == nullptr) return "";
  std::string text = line;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

void check_daemon(Checks& checks) {
  Check check{.name = "daemon"};
  const Result<std::string> daemon = find_program("kvfsd");
  if (!daemon) {
    check.level = Level::kBad;
    check.found = "kvfsd is not installed";
    check.remedy = "install it beside kvfs: cmake --install, or the package";
  } else if (const std::string version = version_line(*daemon); version.empty()) {
    check.level = Level::kBad;
    check.found = fmt::format("{} does not start", *daemon);
    check.remedy = fmt::format("run {} --version and see; a library may be missing (ldd)", *daemon);
  } else {
    check.found = fmt::format("{}: {}", *daemon, version);
  }
  checks.push_back(check);
}

void check_fusermount(Checks& checks) {
  if (::geteuid() == 0) return;  // root mounts by itself
  Check check{.name = "fusermount3"};
  if (const Result<std::string> helper = find_program("fusermount3"); helper) {
    check.found = *helper;
  } else {
    check.level = Level::kBad;
    check.found = "not installed";
    check.remedy = "mounting without root needs it: install the package fuse3";
  }
  checks.push_back(check);
}

}  // namespace

void check_programs(Checks& checks) {
  check_daemon(checks);
  check_fusermount(checks);
}

}  // namespace kvfs::cli
