// A file of the mount, mapped.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "lib/client/descriptor.h"
#include "lib/format/result.h"

namespace kvfs::client {

// Threads: immutable after open().
// Owns:    the mapping and the descriptor; the daemon counts descriptors to learn what is mapped.
// Blocks:  open() asks the daemon.
// Errors:  those of the mount (mount_error), kCorrupt for an empty file.
class Mapping {
 public:
  // The whole file `path` below `directory`. A forked child does not inherit it.
  static Result<Mapping> open(int directory, const char* path, bool writable,
                              std::string_view what);
  Mapping() = default;
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&&) = delete;
  ~Mapping();

  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }

 private:
  Mapping(Descriptor file, std::span<std::byte> bytes) : file_(std::move(file)), bytes_(bytes) {}
  Descriptor file_;
  std::span<std::byte> bytes_;
};

}  // namespace kvfs::client
