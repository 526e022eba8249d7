// One slab's file and the daemon's mapping of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <shared_mutex>
#include <span>
#include <string>

#include "fs/unique_fd.h"
#include "lib/format/result.h"

namespace kvfs::tiers {

inline constexpr std::uint64_t kHugePage = std::uint64_t{2} << 20;

// Threads: any; touches run together, discard() waits for those under way.
// Owns:    descriptor and mapping, not the name: the file stays when this goes, unless discarded.
// Blocks:  reserve() takes pages, touch() faults them in, discard() frees them.
// Errors:  kIo, kNoSpace (the tmpfs is full).
class SlabFile {
 public:
  // A new, empty file. `directory` is an open directory and must outlive this.
  static Result<std::shared_ptr<SlabFile>> create(int directory, const std::string& name,
                                                  std::uint64_t bytes);
  // One that is there, with the size it has, but for what is behind `most` bytes: clients that may
  // write to it may have made it longer.
  static Result<std::shared_ptr<SlabFile>> open(int directory, const std::string& name,
                                                std::uint64_t most);
  SlabFile(int directory, std::string name, UniqueFd fd, std::span<std::byte> memory);
  ~SlabFile();
  SlabFile(const SlabFile&) = delete;
  SlabFile& operator=(const SlabFile&) = delete;

  // Takes the memory of the whole file from the file system, so that no access can fail for want of
  // it (SIGBUS). It is not filled yet: that is touch().
  Status reserve();
  // Faults [offset, offset + bytes) in, on huge pages where the system lets us. Contents stay.
  Status touch(std::uint64_t offset, std::uint64_t bytes);
  // Gives the memory back to the system even where a client still maps it, and removes the name.
  Status discard();

  [[nodiscard]] std::byte* base() const { return memory_.data(); }
  [[nodiscard]] std::uint64_t bytes() const { return memory_.size(); }
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  static Result<std::shared_ptr<SlabFile>> map(int directory, const std::string& name, UniqueFd fd,
                                               std::uint64_t bytes);
  [[nodiscard]] tl::unexpected<Error> no_memory() const;

  int directory_;
  std::string name_;
  UniqueFd fd_;
  std::span<std::byte> memory_;
  std::shared_mutex mutex_;
  bool discarded_ = false;  // guarded by mutex_
};

}  // namespace kvfs::tiers
