#include "fs/tiers/slab_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <mutex>
#include <utility>

namespace kvfs::tiers {
namespace {

// Older headers lack them.
constexpr int kMadvPopulateWrite = 23;
constexpr int kMadvCollapse = 25;

// A shared mapping of the whole file, aligned to huge pages: an unaligned one would get none.
std::byte* map_aligned(int fd, std::uint64_t bytes) {
  const std::uint64_t room = bytes + kHugePage;
  void* reserved =
      ::mmap(nullptr, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return nullptr;
  const auto start = reinterpret_cast<std::uintptr_t>(reserved);
  const std::uintptr_t aligned = (start + kHugePage - 1) / kHugePage * kHugePage;
  void* memory = ::mmap(reinterpret_cast<void*>(aligned), bytes, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_FIXED, fd, 0);
  if (memory == MAP_FAILED) {
    const int error = errno;
    ::munmap(reserved, room);
    errno = error;
    return nullptr;
  }
  if (aligned > start) ::munmap(reserved, aligned - start);
  const std::uintptr_t end = aligned + bytes;
  if (start + room > end) ::munmap(reinterpret_cast<void*>(end), start + room - end);
  return static_cast<std::byte*>(memory);
}

// For kernels that do not know MADV_POPULATE_WRITE. Clients may be writing: change nothing.
void touch_each_page(std::byte* memory, std::uint64_t bytes) {
  constexpr std::uint64_t kPage = 4096;
  for (std::uint64_t at = 0; at < bytes; at += kPage) {
    std::atomic_ref<unsigned char>(reinterpret_cast<unsigned char&>(memory[at])).fetch_or(0);
  }
}

}  // namespace

SlabFile::SlabFile(int directory, std::string name, UniqueFd fd, std::span<std::byte> memory)
    : directory_(directory), name_(std::move(name)), fd_(std::move(fd)), memory_(memory) {}

SlabFile::~SlabFile() { ::munmap(memory_.data(), memory_.size()); }

Result<std::shared_ptr<SlabFile>> SlabFile::map(int directory, const std::string& name, UniqueFd fd,
                                                std::uint64_t bytes) {
  std::byte* memory = map_aligned(fd.get(), bytes);
  if (memory == nullptr) return fail_errno(errno, fmt::format("mapping slab {}", name));
  return std::make_shared<SlabFile>(directory, name, std::move(fd), std::span(memory, bytes));
}

Result<std::shared_ptr<SlabFile>> SlabFile::create(int directory, const std::string& name,
                                                   std::uint64_t bytes) {
  UniqueFd fd(
      ::openat(directory, name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return fail_errno(errno, fmt::format("creating slab {}", name));
  if (::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) {
    const int error = errno;
    ::unlinkat(directory, name.c_str(), 0);
    return fail_errno(error, fmt::format("sizing slab {}", name));
  }
  auto file = map(directory, name, std::move(fd), bytes);
  if (!file) ::unlinkat(directory, name.c_str(), 0);
  return file;
}

Result<std::shared_ptr<SlabFile>> SlabFile::open(int directory, const std::string& name,
                                                 std::uint64_t most) {
  UniqueFd fd(::openat(directory, name.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) return fail_errno(errno, fmt::format("opening slab {}", name));
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return fail_errno(errno, fmt::format("sizing slab {}", name));
  if (!S_ISREG(info.st_mode) || info.st_size <= 0) {
    return fail(Code::kCorrupt, fmt::format("slab {} is not a file of a positive size", name));
  }
  const auto bytes = static_cast<std::uint64_t>(info.st_size);
  if (bytes > most && ::ftruncate(fd.get(), static_cast<off_t>(most)) != 0)
    return fail_errno(errno, fmt::format("cutting slab {} to its size", name));
  return map(directory, name, std::move(fd), std::min(bytes, most));
}

tl::unexpected<Error> SlabFile::no_memory() const {
  return fail(Code::kNoSpace, fmt::format("no memory for slab {}: its file system is full; lower "
                                          "the DRAM capacity",
                                          name_));
}

Status SlabFile::reserve() {
  const auto bytes = static_cast<off_t>(memory_.size());
  int reserved = 0;
  do {
    reserved = ::fallocate(fd_.get(), 0, 0, bytes);
  } while (reserved != 0 && errno == EINTR);
  if (reserved == 0 || errno == EOPNOTSUPP) return {};
  if (errno == ENOSPC || errno == ENOMEM) return no_memory();
  return fail_errno(errno, fmt::format("reserving the memory of slab {}", name_));
}

Status SlabFile::touch(std::uint64_t offset, std::uint64_t bytes) {
  const std::shared_lock lock(mutex_);
  if (discarded_) return {};
  std::byte* memory = memory_.data() + offset;
  if (::madvise(memory, bytes, kMadvPopulateWrite) != 0) {
    // EFAULT: a plain access would get SIGBUS, that is, the file system is full.
    if (errno == EFAULT || errno == ENOMEM) return no_memory();
    if (errno != EINVAL) return fail_errno(errno, fmt::format("touching slab {}", name_));
    touch_each_page(memory, bytes);
  }
  // Does nothing where the mount gave huge pages already, and fails harmlessly where none are to be
  // had.
  (void)::madvise(memory, bytes, kMadvCollapse);
  return {};
}

Status SlabFile::discard() {
  const std::lock_guard lock(mutex_);
  discarded_ = true;
  const auto bytes = static_cast<off_t>(memory_.size());
  // A client may have written behind its end.
  const bool cut = ::ftruncate(fd_.get(), bytes) == 0;
  const bool punched =
      cut && ::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, bytes) == 0;
  const int punch_error = errno;
  if (::unlinkat(directory_, name_.c_str(), 0) != 0 && errno != ENOENT) {
    return fail_errno(errno, fmt::format("removing slab {}", name_));
  }
  if (!punched) return fail_errno(punch_error, fmt::format("freeing the memory of slab {}", name_));
  return {};
}

}  // namespace kvfs::tiers
