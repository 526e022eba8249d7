// doctor: the NVMe tier's directory.
#include <fmt/format.h>
#include <sys/statvfs.h>

#include "tools/cli/doctor.h"
#include "tools/cli/measure.h"
#include "tools/cli/units.h"

namespace kvfs::cli {
namespace {

constexpr std::uint64_t kSampleBytes = std::uint64_t{128} << 20;
// Below it, loading 8 KiB a token (a small model in BF16) is no faster than a CPU's prefill.
constexpr double kSlowDisk = 200e6;

}  // namespace

void check_disk(Checks& checks, const std::string& directory) {
  struct statvfs space {};
  if (::statvfs(directory.c_str(), &space) == 0) {
    checks.push_back(
        {.name = "disk space",
         .found = fmt::format("{} free in {}", human_bytes(space.f_bavail * space.f_frsize),
                              directory)});
  }
  Check check{.name = "disk"};
  const Result<DiskSpeed> speed = measure_disk(directory, kSampleBytes);
  if (!speed) {
    check.level = Level::kBad;
    check.found = speed.error().message;
    check.remedy =
        "the NVMe tier needs a directory on a local disk with O_DIRECT: choose it with --nvme "
        "DIR:SIZE";
  } else {
    check.found = fmt::format("{}: O_DIRECT, about {} read, {} write, {} a 4 KiB read", directory,
                              human_rate(speed->read), human_rate(speed->write),
                              human_seconds(speed->latency));
    if (speed->read < kSlowDisk) {
      check.level = Level::kWarn;
      check.remedy = "too slow to win against recomputing for most models: see kvfs plan";
    }
  }
  checks.push_back(check);
}

}  // namespace kvfs::cli
