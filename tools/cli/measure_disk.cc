#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "fs/unique_fd.h"
#include "tools/cli/measure.h"

namespace kvfs::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kPiece = 1U << 20;
constexpr std::uint32_t kWorkers = 8;  // requests at once
constexpr std::uint64_t kPage = 4096;
constexpr int kLatencyReads = 21;

// 2 MiB-aligned, so that the kernel may use a huge page: with small ones O_DIRECT is slower.
class Buffer {
 public:
  Buffer() : memory_(std::aligned_alloc(2 * kPiece, 2 * kPiece)) {
    ::madvise(memory_, 2 * kPiece, MADV_HUGEPAGE);  // a hint
    std::memset(memory_, 0x5a, 2 * kPiece);
  }
  ~Buffer() { std::free(memory_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  [[nodiscard]] void* get() const { return memory_; }

 private:
  void* memory_;
};

// `io(buffer, offset)` for every piece of the file, kWorkers at once; bytes per second.
template <typename Io>
Result<double> run_pieces(std::uint64_t bytes, Io io) {
  std::atomic<std::uint64_t> next{0};
  std::atomic<int> failed{0};
  std::array<Buffer, kWorkers> buffers;
  const auto start = Clock::now();
  {
    std::vector<std::jthread> workers;
    workers.reserve(buffers.size());
    for (const Buffer& buffer : buffers) {
      workers.emplace_back([&] {
        for (;;) {
          const std::uint64_t at = next.fetch_add(kPiece);
          if (at >= bytes) return;
          if (io(buffer.get(), static_cast<off_t>(at)) != static_cast<ssize_t>(kPiece))
            failed = errno;
        }
      });
    }
  }
  const std::chrono::duration<double> elapsed = Clock::now() - start;
  if (failed != 0) return fail_errno(failed, "measuring the disk");
  return static_cast<double>(bytes) / elapsed.count();
}

double read_latency(int fd, std::uint64_t bytes) {
  const Buffer buffer;
  std::vector<double> seconds;
  for (int i = 0; i < kLatencyReads; ++i) {
    // Far apart, so that no read finds what the last one fetched.
    const std::uint64_t at = bytes / kLatencyReads * static_cast<std::uint64_t>(i) / kPage * kPage;
    const auto start = Clock::now();
    if (::pread(fd, buffer.get(), kPage, static_cast<off_t>(at)) < 0) continue;
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  if (seconds.empty()) return 0;
  std::ranges::sort(seconds);
  return seconds[seconds.size() / 2];
}

}  // namespace

Result<DiskSpeed> measure_disk(const std::string& directory, std::uint64_t bytes) {
  bytes = std::max(bytes / kPiece, std::uint64_t{1}) * kPiece;
  UniqueFd file(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600));
  if (!file.valid()) {
    if (errno == EINVAL || errno == EOPNOTSUPP) {
      return fail(
          Code::kUnavailable,
          fmt::format("{} is on a file system without O_DIRECT: use a directory on a local disk "
                      "(ext4, xfs)",
                      directory));
    }
    if (errno == EACCES || errno == EPERM || errno == EROFS) {
      return fail(Code::kPermission, fmt::format("{} cannot be written by this user: {}", directory,
                                                 std::strerror(errno)));
    }
    if (errno == ENOENT || errno == ENOTDIR) {
      return fail(Code::kNotFound, fmt::format("there is no directory {}", directory));
    }
    return fail_errno(errno, directory);
  }
  const int fd = file.get();
  if (const int error = ::posix_fallocate(fd, 0, static_cast<off_t>(bytes)); error != 0) {
    return fail_errno(error, fmt::format("no room for {} MiB in {}", bytes / kPiece, directory));
  }
  DiskSpeed speed;
  Result<double> write =
      run_pieces(bytes, [fd](void* buffer, off_t at) { return ::pwrite(fd, buffer, kPiece, at); });
  if (!write) return pass(std::move(write));
  Result<double> read =
      run_pieces(bytes, [fd](void* buffer, off_t at) { return ::pread(fd, buffer, kPiece, at); });
  if (!read) return pass(std::move(read));
  speed.write = *write;
  speed.read = *read;
  speed.latency = read_latency(fd, bytes);
  return speed;
}

}  // namespace kvfs::cli
