// EngineSide: where KV comes from or goes to in the engine, and the device that reaches it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <kvfs/kvfs.h>

#include "gpu/device.h"
#include "lib/client/devices.h"
#include "lib/format/geometry.h"
#include "lib/format/result.h"

namespace kvfs::client {

// What part of a namespace's blocks a transfer is about.
struct BlockRange {
  std::uint32_t group;
  std::uint32_t first;
  std::uint32_t count;
};

// Bytes [offset, offset + bytes) of every block.
struct ByteRange {
  std::uint64_t offset;
  std::uint64_t bytes;
};

// Threads: immutable; calls from any thread.
// Owns:    copies of the caller's tables, not the memory they name.
// Blocks:  load() and store() as Device says.
// Errors:  made only from arguments that fit the geometry and the range.
class EngineSide {
 public:
  static Result<EngineSide> from_pages(const kvfs_pages& pages, const Geometry& geometry,
                                       const BlockRange& range, Devices& devices, void* stream);
  static Result<EngineSide> from_blocks(const kvfs_blocks& blocks, const Geometry& geometry,
                                        const BlockRange& range, Devices& devices, void* stream);

  // The same for blocks as read(2) shows them: of a packed namespace raw ones.
  [[nodiscard]] EngineSide shown() const;
  [[nodiscard]] const gpu::BlockShape& shape() const { return shape_; }
  [[nodiscard]] gpu::Device& device() const { return *device_; }
  // The same with some of its range's blocks, and with some of its layers; they must be movable.
  // `more`: of the same load others follow at once.
  [[nodiscard]] EngineSide with_blocks(std::uint32_t first, std::uint32_t count) const;
  [[nodiscard]] EngineSide with_layers(std::uint32_t first, std::uint32_t count, bool more) const;
  [[nodiscard]] std::uint32_t layers() const { return shape_.layers; }
  [[nodiscard]] std::uint32_t layers_wanted() const;
  // Whether a load may move some layers of its blocks.
  [[nodiscard]] bool layers_movable() const;

  void load(std::span<const gpu::BlockAt> blocks, gpu::CopyDone done) const;
  // The same from memory of the engine's own device.
  void load_local(std::span<const gpu::BlockAt> blocks, gpu::CopyDone done) const;
  void store(std::span<const gpu::BlockAt> blocks, gpu::CopyDone done) const;

  // The part of a block that this side reads or writes: its heads, as they are stored.
  [[nodiscard]] ByteRange touched() const;
  [[nodiscard]] const BlockRange& range() const { return range_; }
  // Of a block as it is stored.
  [[nodiscard]] std::uint64_t stored_bytes() const { return shape_.stored_bytes(); }

 private:
  EngineSide(const Geometry& geometry, const BlockRange& range)
      : shape_(gpu::block_shape(geometry, range.group)),
        range_(range),
        opaque_(geometry.opaque()) {}
  // The device of `pointer`, and what the engine's stream holds now.
  Status choose_device(Devices& devices, const void* pointer, void* stream);
  // Whole blocks of a namespace that does not store them as they are.
  using Convert = void (gpu::Device::*)(const gpu::BlockShape&, std::span<const gpu::BlockAt>,
                                        std::shared_ptr<const gpu::Pages>, const gpu::After&,
                                        gpu::CopyDone);
  void convert(Convert way, std::span<const gpu::BlockAt> blocks, const gpu::CopyDone& done) const;
  // Addresses of these blocks in the engine; scratch of the calling thread.
  [[nodiscard]] std::span<std::byte* const> addresses(std::span<const gpu::BlockAt> blocks) const;

  gpu::BlockShape shape_;
  BlockRange range_;
  bool opaque_;
  gpu::Device* device_ = nullptr;
  gpu::After after_;
  std::shared_ptr<const gpu::Pages> pages_;  // nullptr: whole blocks
  std::vector<std::byte*> blocks_;           // of range_, in order
};

}  // namespace kvfs::client
