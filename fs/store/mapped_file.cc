#include "fs/store/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace kvfs::store {
namespace {

constexpr std::uint64_t kProvideStep = 256 * 1024;

tl::unexpected<Error> failed(int error, const std::string& what, const std::string& path) {
  if (error != ENOSPC) return fail_errno(error, what + " " + path);
  return fail(Code::kNoSpace,
              what + " " + path + ": its file system is full; give it more room, or lower --dram");
}

}  // namespace

Result<MappedFile> MappedFile::create(const std::string& path, std::uint64_t bytes) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd.valid()) return failed(errno, "create", path);
  if (::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) return failed(errno, "size", path);
  return map(path, std::move(fd), bytes, PROT_READ | PROT_WRITE);
}

Result<MappedFile> MappedFile::open(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) return failed(errno, "open", path);
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return failed(errno, "stat", path);
  if (!S_ISREG(status.st_mode) || status.st_size == 0) {
    return fail(Code::kCorrupt, path + " is empty or not a file: remove it");
  }
  return map(path, std::move(fd), static_cast<std::uint64_t>(status.st_size), PROT_READ);
}

Result<MappedFile> MappedFile::map(const std::string& path, UniqueFd fd, std::uint64_t bytes,
                                   int protection) {
  void* memory = ::mmap(nullptr, bytes, protection, MAP_SHARED, fd.get(), 0);
  if (memory == MAP_FAILED) return failed(errno, "map", path);
  MappedFile file;
  file.path_ = path;
  file.fd_ = std::move(fd);
  file.memory_ = {static_cast<std::byte*>(memory), bytes};
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(memory_, other.memory_);
  std::swap(provided_, other.provided_);
  return *this;
}

MappedFile::~MappedFile() {
  if (!memory_.empty()) ::munmap(memory_.data(), memory_.size());
}

Status MappedFile::provide(std::uint64_t end) {
  if (end <= provided_) return {};
  const std::uint64_t rounded =
      std::min<std::uint64_t>((end + kProvideStep - 1) / kProvideStep * kProvideStep, bytes());
  const auto length = static_cast<off_t>(rounded - provided_);
  int result = 0;
  do {
    result = ::fallocate(fd_.get(), 0, static_cast<off_t>(provided_), length);
  } while (result != 0 && errno == EINTR);
  if (result != 0) return failed(errno, "grow", path_);
  provided_ = rounded;
  return {};
}

std::uint64_t MappedFile::memory_bytes() const {
  struct stat status {};
  if (fd_.valid() && ::fstat(fd_.get(), &status) == 0) {
    return static_cast<std::uint64_t>(status.st_blocks) * 512;
  }
  return 0;
}

}  // namespace kvfs::store
