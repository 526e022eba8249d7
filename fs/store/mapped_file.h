// A file of shared memory: mapped whole, given memory piece by piece.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "fs/unique_fd.h"
#include "lib/format/result.h"

namespace kvfs::store {

// Threads: none of its own; the owner locks.
// Owns:    descriptor and mapping; not the name: the file stays when this goes.
// Blocks:  never on I/O (tmpfs).
// Errors:  kIo, or kNoSpace where the file system is full. Memory must be provide()d before it is
//          touched: a hole in a full tmpfs would kill the daemon with SIGBUS.
class MappedFile {
 public:
  MappedFile() = default;
  // A new file of `bytes` bytes, zero and all hole; the name must be free.
  static Result<MappedFile> create(const std::string& path, std::uint64_t bytes);
  // One that is there, read-only.
  static Result<MappedFile> open(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  // Makes sure that all bytes below `end` have memory. Rounded up, so that it seldom calls.
  Status provide(std::uint64_t end);

  [[nodiscard]] std::byte* data() const { return memory_.data(); }
  [[nodiscard]] std::span<std::byte> memory() const { return memory_; }
  [[nodiscard]] std::uint64_t bytes() const { return memory_.size(); }
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] std::uint64_t memory_bytes() const;  // pages that it really has

 private:
  static Result<MappedFile> map(const std::string& path, UniqueFd fd, std::uint64_t bytes,
                                int protection);

  std::string path_;
  UniqueFd fd_;
  std::span<std::byte> memory_;
  std::uint64_t provided_ = 0;  // bytes below have memory
};

}  // namespace kvfs::store
