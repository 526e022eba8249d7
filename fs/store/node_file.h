// NodeFile: the Node and Placement arrays of one catalog generation in shared memory.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "fs/store/catalog.h"
#include "fs/store/mapped_file.h"
#include "lib/format/result.h"

namespace kvfs::store {

//   [ header, 4096 B ][ Node, Placement * groups ] * capacity
// It is found again after a SIGKILL, which may fall between any two stores of this process: a block
// counts only with kNodeLive, which is set last and cleared first (crash_order()), and a file only
// when it is complete.
//
// Threads: none of its own; the owner locks.
// Owns:    the file (not its name) and its mapping.
// Blocks:  never on I/O.
// Errors:  kIo, kNoSpace; open() also kCorrupt and kMismatch.
class NodeFile {
 public:
  static Result<NodeFile> create(const std::string& path, const Geometry& geometry,
                                 std::uint32_t capacity);
  // What an earlier daemon left, read-only.
  static Result<NodeFile> open(const std::string& path, const Geometry& geometry);

  // Before node(id) is written.
  Status provide(BlockId id);
  Status copy_from(const NodeFile& old, BlockId count);
  void set_complete(bool complete);

  [[nodiscard]] Node& node(BlockId id) const { return *reinterpret_cast<Node*>(at(id)); }
  [[nodiscard]] Placement& placement(BlockId id, std::uint32_t group) const {
    return *reinterpret_cast<Placement*>(at(id) + sizeof(Node) + group * sizeof(Placement));
  }
  [[nodiscard]] std::uint32_t capacity() const { return capacity_; }
  [[nodiscard]] const MappedFile& file() const { return file_; }

 private:
  [[nodiscard]] std::byte* at(BlockId id) const;

  MappedFile file_;
  std::uint32_t capacity_ = 0;
  std::size_t stride_ = 0;
};

// What stands before it is in memory when what stands behind it is, should the process be killed.
// (The processor finishes what it began; only the compiler must be told.)
inline void crash_order() { std::atomic_signal_fence(std::memory_order_seq_cst); }

}  // namespace kvfs::store
