// An engine's KV memory as tensors describe it: kvfs_pages without what changes from call to call.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include <kvfs/kvfs.h>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include "int32s.h"

namespace kvfs::python {

// What an axis of a tensor counts; kvfs.layout turns names into positions.
enum Axis : std::size_t { kLayers, kKv, kPages, kTokens, kHeads, kDim, kAxisCount };
using AxisPositions = std::array<int, kAxisCount>;  // -1: the tensors have no such axis

// Which tokens and heads a call is about, and where they are.
struct PagesCall {
  std::uint32_t group;
  std::uint32_t first_block;
  std::uint32_t count;
  std::uint64_t first_token;  // prefix position of slot 0
  const Int32s* page_table;   // nullptr: not paged
};

// Threads: immutable after construction, so any; made and destroyed with the GIL held.
// Owns:    references to the tensors, which therefore outlive it; never a copy of them.
// Blocks:  never.
// Errors:  ValueError in words of axes and shapes. No address outside the tensors is ever handed to
// kvfs.
class Pages {
 public:
  // `tensors`: one per layer, or K and V of each layer in turn (`apart`), or one with a layers
  // axis.
  Pages(const nanobind::sequence& tensors, const AxisPositions& axes, bool apart,
        std::uint32_t first_head);

  // The kvfs_pages of one call; points into this object and the page table. ValueError where the
  // tensors do not fit the geometry or do not reach far enough for the blocks.
  [[nodiscard]] kvfs_pages describe(const kvfs_geometry& geometry, const PagesCall& call,
                                    bool written) const;

  [[nodiscard]] std::size_t layers() const { return addresses_.size() / (apart_ ? 2 : 1); }
  [[nodiscard]] std::int64_t extent(Axis axis) const { return extents_[axis]; }
  [[nodiscard]] bool has(Axis axis) const { return axes_[axis] >= 0; }
  [[nodiscard]] bool writable() const { return writable_; }
  [[nodiscard]] const void* pointer() const { return addresses_.front(); }

 private:
  using Tensor = nanobind::ndarray<nanobind::ro>;

  void take(nanobind::handle object, std::size_t position);
  void check_group(const kvfs_geometry& geometry, std::uint32_t group) const;
  void check_reach(const kvfs_geometry& geometry, const PagesCall& call) const;

  std::vector<Tensor> tensors_;
  AxisPositions axes_;
  bool apart_;
  bool writable_ = true;
  std::uint32_t first_head_;
  std::vector<void*> addresses_;
  std::array<std::int64_t, kAxisCount> extents_{};
  std::array<std::int64_t, kAxisCount> strides_{};  // bytes
};

}  // namespace kvfs::python
