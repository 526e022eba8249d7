// Memory registered with an io_uring.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

struct io_uring;

namespace kvfs::tiers {

// A sparse table, so that registering one slab does not disturb requests on the others. A slab
// takes several entries: the kernel allows 1 GiB each.
//
// Threads: the ring's own only.
// Owns:    the entries. The kernel pins the memory until the last request on it is done.
// Blocks:  add() pins pages: about a millisecond per GiB on huge pages.
// Errors:  none: what the kernel refuses (RLIMIT_MEMLOCK, an old kernel) stays unregistered, which
//          is logged once; requests then name the memory themselves.
class UringBuffers {
 public:
  void open(io_uring& ring);
  void add(std::span<std::byte> memory);
  void remove(std::span<std::byte> memory);
  // The entry that holds all of it; -1: none does.
  [[nodiscard]] int find(const std::byte* memory, std::size_t bytes) const;

 private:
  struct Entry {
    std::byte* begin;
    std::byte* end;
    int index;
  };
  int update(int index, std::byte* begin, std::size_t bytes);

  io_uring* ring_ = nullptr;  // nullptr: not to be had
  bool refused_ = false;
  std::vector<Entry> entries_;  // by address
  std::vector<int> free_;
};

}  // namespace kvfs::tiers
