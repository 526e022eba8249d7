#include "lib/client/mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>

#include "lib/client/errors.h"

namespace kvfs::client {

namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

// The file's huge pages are mapped as such only at addresses aligned like them, which the kernel
// does not choose by itself for files of this kind: a range with room to align in is taken first.
void* map_aligned(std::size_t size, int protection, int fd) {
  const std::size_t room = size + kHugePage;
  void* const range = ::mmap(nullptr, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (range == MAP_FAILED) return MAP_FAILED;
  const auto begin = reinterpret_cast<std::uintptr_t>(range);
  const std::uintptr_t aligned = (begin + kHugePage - 1) / kHugePage * kHugePage;
  const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t pages = (size + page - 1) / page * page;
  void* const memory = ::mmap(static_cast<std::byte*>(range) + (aligned - begin), size, protection,
                              MAP_SHARED | MAP_FIXED, fd, 0);
  if (memory == MAP_FAILED) {
    ::munmap(range, room);
    return MAP_FAILED;
  }
  const std::uintptr_t end = aligned + pages;
  if (aligned > begin) ::munmap(range, aligned - begin);
  if (end < begin + room) ::munmap(static_cast<std::byte*>(memory) + pages, begin + room - end);
  return memory;
}

}  // namespace

Result<Mapping> Mapping::open(int directory, const char* path, bool writable,
                              std::string_view what) {
  Descriptor file(::openat(directory, path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC));
  if (!file.valid()) return mount_error(errno, what);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return mount_error(errno, what);
  if (status.st_size <= 0) return fail(Code::kCorrupt, std::string(what) + " is empty");
  const auto size = static_cast<std::size_t>(status.st_size);
  const int protection = PROT_READ | (writable ? PROT_WRITE : 0);
  void* const memory = map_aligned(size, protection, file.get());
  if (memory == MAP_FAILED) return mount_error(errno, std::string("mapping ") + std::string(what));
  ::madvise(memory, size, MADV_DONTFORK);
  return Mapping(std::move(file), {static_cast<std::byte*>(memory), size});
}

Mapping::Mapping(Mapping&& other) noexcept
    : file_(std::move(other.file_)), bytes_(std::exchange(other.bytes_, {})) {}

Mapping::~Mapping() {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

}  // namespace kvfs::client
