// Host memory in a GPU's part: a memfd, mapped by whoever may look at the owner's descriptors.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <system_error>
#include <utility>

#include "gpu/shared_memory.h"

namespace kvfs::gpu {
namespace {

tl::unexpected<Error> failed(const std::string& what) {
  return fail(Code::kIo, what + ": " + std::generic_category().message(errno));
}

// A mapping of a whole file, and a descriptor that goes with it (-1: none).
// Threads: immutable.
// Owns:    both.
// Blocks:  never.
// Errors:  none.
class HostMapping {
 public:
  HostMapping(int fd, std::span<std::byte> bytes) : fd_(fd), bytes_(bytes) {}
  ~HostMapping() {
    ::munmap(bytes_.data(), bytes_.size());
    if (fd_ >= 0) ::close(fd_);
  }
  HostMapping(const HostMapping&) = delete;
  HostMapping& operator=(const HostMapping&) = delete;
  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }

 private:
  const int fd_;
  const std::span<std::byte> bytes_;
};

class HostPiece final : public SharedMemory {
 public:
  HostPiece(int fd, std::span<std::byte> bytes) : mapping_(fd, bytes) {
    handle_.magic = kSharedMagic;
    handle_.bytes = bytes.size();
    const std::string path = "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(fd);
    std::ranges::copy(path, handle_.token.begin());  // the rest is zero
  }
  [[nodiscard]] const SharedHandle& handle() const override { return handle_; }
  Status write(std::uint64_t offset, std::span<const std::byte> bytes) override {
    std::memcpy(mapping_.bytes().data() + offset, bytes.data(), bytes.size());
    return {};
  }

 private:
  const HostMapping mapping_;
  SharedHandle handle_;
};

class HostPool final : public SharedMemoryPool {
 public:
  Result<std::unique_ptr<SharedMemory>> allocate(std::uint64_t bytes) override {
    const int fd = ::memfd_create("kvfs-gpu-slab", MFD_CLOEXEC);
    if (fd < 0) return failed("making a memfd");
    void* memory = MAP_FAILED;
    if (::ftruncate(fd, static_cast<off_t>(bytes)) == 0) {
      memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    if (memory == MAP_FAILED) {
      auto error = failed("making memory of " + std::to_string(bytes) + " bytes");
      ::close(fd);
      return error;
    }
    return std::make_unique<HostPiece>(fd, std::span(static_cast<std::byte*>(memory), bytes));
  }
  Result<std::uint64_t> available() override {
    return static_cast<std::uint64_t>(::sysconf(_SC_AVPHYS_PAGES)) *
           static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  }
};

class MappedHost final : public MappedMemory {
 public:
  explicit MappedHost(std::span<std::byte> bytes) : mapping_(-1, bytes) {}
  [[nodiscard]] std::byte* data() const override { return mapping_.bytes().data(); }

 private:
  const HostMapping mapping_;
};

}  // namespace

std::unique_ptr<SharedMemoryPool> make_host_pool() { return std::make_unique<HostPool>(); }

Result<std::unique_ptr<MappedMemory>> map_host_memory(const SharedHandle& handle) {
  if (handle.device != DeviceId{}) {
    return fail(Code::kMismatch, "the memory is a GPU's, not the host's");
  }
  const std::string path(handle.token.begin(), std::ranges::find(handle.token, '\0'));
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return failed(path);
  void* const memory = ::mmap(nullptr, handle.bytes, PROT_READ, MAP_SHARED, fd, 0);
  const int error = errno;
  ::close(fd);
  errno = error;
  if (memory == MAP_FAILED) return failed("mapping " + path);
  return std::make_unique<MappedHost>(std::span(static_cast<std::byte*>(memory), handle.bytes));
}

}  // namespace kvfs::gpu
