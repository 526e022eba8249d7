// stat_missing: stat(2) of a name that is not there, each time another, against the same on tmpfs.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <vector>

#include "fs/unique_fd.h"
#include "tools/benchmarks/benches.h"
#include "tools/benchmarks/data.h"
#include "tools/benchmarks/handles.h"
#include "tools/benchmarks/timing.h"

namespace kvfs::bench {
namespace {

constexpr double kMost = 30;  // microseconds

Result<double> time_stat(int directory, const std::string& name) {
  struct stat info {};
  const Stopwatch watch;
  const int result = ::fstatat(directory, name.c_str(), &info, 0);
  const double seconds = watch.seconds();
  if (result == 0 || errno != ENOENT) return fail(Code::kCorrupt, fmt::format("{} is there", name));
  return seconds * 1e6;
}

}  // namespace

Status bench_stat_missing(const Target& target, const Emit& emit) {
  auto name_space = TempNamespace::create(target.mount, "bench-stat", tiny_geometry());
  if (!name_space) return pass(std::move(name_space));
  const UniqueFd directory(
      ::open((*name_space)->directory().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const UniqueFd tmpfs(::open("/dev/shm", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid() || !tmpfs.valid()) return fail_errno(errno, "opening a directory");
  std::vector<double> ours, theirs;
  const int count = target.quick ? 2000 : 20000;
  for (int i = 0; i < count; ++i) {
    // As an engine that keeps one file a block would ask.
    const std::string name = fmt::format("{:016x}{:016x}.safetensors",
                                         0x9e3779b97f4a7c15U * static_cast<unsigned>(i + 1), i);
    Result<double> us = time_stat(directory.get(), name);
    if (!us) return pass(std::move(us));
    Result<double> limit = time_stat(tmpfs.get(), name);
    if (!limit) return pass(std::move(limit));
    ours.push_back(*us);
    theirs.push_back(*limit);
  }
  emit(cost_row("stat_missing", "us", median(ours), median(theirs), kMost));
  return {};
}

}  // namespace kvfs::bench
