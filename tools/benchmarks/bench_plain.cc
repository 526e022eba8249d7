// plain_read, plain_read_cached, plain_write: files of a plain directory against files of the file
// system below, with the same calls.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "fs/unique_fd.h"
#include "tools/benchmarks/benches.h"
#include "tools/benchmarks/cleanup.h"
#include "tools/benchmarks/data.h"
#include "tools/benchmarks/timing.h"

namespace kvfs::bench {
namespace {

constexpr double kLeast = 0.95;
constexpr std::uint64_t kBytes = std::uint64_t{256} << 20;
constexpr std::size_t kRequest = std::size_t{1} << 20;

enum class How { kRead, kReadCached, kWrite };

// GB/s of one pass over the file; of writes with the fdatasync at the end.
Result<double> pass_over(const std::string& path, How how, const HugeBuffer& buffer) {
  const bool writes = how == How::kWrite;
  const int direct = how == How::kReadCached ? 0 : O_DIRECT;
  const UniqueFd file(
      ::open(path.c_str(), (writes ? O_WRONLY | O_CREAT : O_RDONLY) | direct | O_CLOEXEC, 0600));
  if (!file.valid()) return fail_errno(errno, path);
  const Stopwatch watch;
  for (std::uint64_t at = 0; at < kBytes; at += kRequest) {
    const auto offset = static_cast<off_t>(at);
    const ssize_t done = writes ? ::pwrite(file.get(), buffer.data(), kRequest, offset)
                                : ::pread(file.get(), buffer.data(), kRequest, offset);
    if (done != static_cast<ssize_t>(kRequest)) return fail_errno(done < 0 ? errno : EIO, path);
  }
  if (writes && ::fdatasync(file.get()) != 0) return fail_errno(errno, path);
  return static_cast<double>(kBytes) / watch.seconds() / 1e9;
}

}  // namespace

Status bench_plain(const Target& target, const Emit& emit) {
  const TempDirectory above(target.mount);  // a directory in the root is a plain one
  const TempDirectory below(target.nvme_directory);
  const std::string files[2] = {above.path() + "/file", below.path() + "/file"};
  const HugeBuffer buffer(2 * kRequest);
  fill_with_numbers({buffer.data(), kRequest});
  const int count = target.quick ? 5 : 15;
  const std::pair<How, const char*> rows[] = {{How::kWrite, "plain_write"},
                                              {How::kRead, "plain_read"},
                                              {How::kReadCached, "plain_read_cached"}};
  for (const auto& [how, name] : rows) {
    std::vector<Round> rounds;
    for (int i = -1; i < count; ++i) {  // the first lays the files out, or reads them into memory
      double speeds[2];
      for (const int k : {i & 1, 1 - (i & 1)}) {
        Result<double> speed = pass_over(files[k], how, buffer);
        if (!speed) return pass(std::move(speed));
        speeds[k] = *speed;
      }
      if (i >= 0) rounds.push_back({speeds[0], speeds[1]});
    }
    emit(speed_row(name, "GB/s", std::move(rounds), kLeast));
  }
  return {};
}

}  // namespace kvfs::bench
