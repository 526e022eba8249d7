#include "lib/client/mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <string>
#include <utility>

#include "lib/client/errors.h"

namespace kvfs::client {

Result<Mapping> Mapping::open(int directory, const char* path, bool writable,
                              std::string_view what) {
  Descriptor file(::openat(directory, path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC));
  if (!file.valid()) return mount_error(errno, what);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return mount_error(errno, what);
  if (status.st_size <= 0) return fail(Code::kCorrupt, std::string(what) + " is empty");
  const auto size = static_cast<std::size_t>(status.st_size);
  void* const memory =
      ::mmap(nullptr, size, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, file.get(), 0);
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
