// read_prefix_first, read_prefix: read(2) of a prefix file out of the slabs, and again out of the
// page cache, against read(2) of as many bytes of a file on tmpfs.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "fs/unique_fd.h"
#include "tools/benchmarks/benches.h"
#include "tools/benchmarks/data.h"
#include "tools/benchmarks/handles.h"
#include "tools/benchmarks/timing.h"

namespace kvfs::bench {
namespace {

constexpr double kLeastFirst = 0.5, kLeastAgain = 0.95;
constexpr std::uint32_t kBlocks = 64;  // 128 MiB
constexpr std::size_t kRequest = std::size_t{1} << 20;

// Seconds to read the whole file from its start with 1 MiB requests.
Result<double> read_all(int fd, std::byte* buffer, std::uint64_t& bytes) {
  bytes = 0;
  const Stopwatch watch;
  for (;;) {
    const ssize_t got = ::pread(fd, buffer, kRequest, static_cast<off_t>(bytes));
    if (got < 0) return fail_errno(errno, "reading");
    if (got == 0) return watch.seconds();
    bytes += static_cast<std::uint64_t>(got);
  }
}

Result<UniqueFd> tmpfs_file(std::uint64_t bytes, const HugeBuffer& content) {
  UniqueFd file(::memfd_create("kvfs-bench", MFD_CLOEXEC));  // a file of the kernel's own tmpfs
  for (std::uint64_t at = 0; at < bytes;) {
    const std::size_t piece = std::min<std::uint64_t>(bytes - at, content.size());
    const ssize_t put = ::pwrite(file.get(), content.data(), piece, static_cast<off_t>(at));
    if (put <= 0) return fail_errno(errno, "writing to tmpfs");
    at += static_cast<std::uint64_t>(put);
  }
  return file;
}

}  // namespace

Status bench_read_prefix(const Target& target, const Emit& emit) {
  auto name_space = TempNamespace::create(target.mount, "bench-read", llama_geometry());
  if (!name_space) return pass(std::move(name_space));
  const HugeBuffer buffer(2 * kRequest);
  auto key = store_copies((*name_space)->client(), make_prompt(0, kBlocks),
                          {buffer.data(), kLlamaBlockBytes});
  if (!key) return pass(std::move(key));
  const std::string path =
      fmt::format("{}/{}.safetensors", (*name_space)->directory(), hex_of(*key));
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return fail_errno(errno, path);
  Result<UniqueFd> tmpfs = tmpfs_file(kBlocks * kLlamaBlockBytes, buffer);
  if (!tmpfs) return pass(std::move(tmpfs));

  std::vector<Round> first, again;
  const int count = target.quick ? 5 : 15;
  for (int i = -1; i < count; ++i) {
    ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);  // out of the page cache
    double speeds[3];
    const int order[3] = {file.get(), file.get(), tmpfs->get()};
    for (int k = 0; k < 3; ++k) {
      std::uint64_t bytes = 0;
      Result<double> seconds = read_all(order[k], buffer.data(), bytes);
      if (!seconds) return pass(std::move(seconds));
      speeds[k] = static_cast<double>(bytes) / *seconds / 1e9;
    }
    if (i < 0) continue;
    first.push_back({speeds[0], speeds[2]});
    again.push_back({speeds[1], speeds[2]});
  }
  emit(speed_row("read_prefix_first", "GB/s", std::move(first), kLeastFirst));
  emit(speed_row("read_prefix", "GB/s", std::move(again), kLeastAgain));
  return {};
}

}  // namespace kvfs::bench
