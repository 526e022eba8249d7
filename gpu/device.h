// Device: copies between slabs and an engine's KV cache, in host memory or on a GPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gpu/shared_memory.h"
#include "lib/format/geometry.h"
#include "lib/format/packed_block.h"
#include "lib/format/quantized_block.h"
#include "lib/format/result.h"

namespace kvfs::gpu {

// One group's KV in the engine's memory; the meaning of every field is that of kvfs_pages in
// <kvfs/kvfs.h>. Owns its page table, since a transfer outlives the call that began it.
struct Pages {
  std::vector<std::byte*> layers;  // one per layer, or one per (layer, kv): K and V apart
  std::int64_t kv_stride = 0, page_stride = 0, token_stride = 0, head_stride = 0;
  std::uint32_t first_head = 0, head_count = 0;
  std::uint32_t first_layer = 0,
                layer_count = 0;  // that move; 0: from the first on
  bool more_follows = false;      // in a copy that begins at once: this one need not end quickly
  std::uint32_t page_tokens = 0;  // 0: strided
  std::vector<std::int32_t> page_table;
  std::uint64_t first_token = 0;
};

// The canonical block (design section 4) of one group, and how it is stored.
struct BlockShape {
  std::uint32_t heads = 0, layers = 0, kv_factor = 0, tokens = 0, head_dim = 0, element_bytes = 0;
  Encoding encoding = Encoding::kRaw;
  DType dtype = DType::kBF16;  // matters where numbers are converted: quantized encodings
  // What an engine has of it.
  [[nodiscard]] std::uint64_t bytes() const { return heads * head_bytes(); }
  [[nodiscard]] std::uint64_t head_bytes() const {
    return std::uint64_t{layers} * kv_factor * tokens * head_dim * element_bytes;
  }
  // What is stored of it.
  [[nodiscard]] std::uint64_t stored_bytes() const { return heads * stored_head_bytes(); }
  [[nodiscard]] std::uint64_t stored_head_bytes() const {
    if (encoding == Encoding::kPacked) return packed().head_bytes;
    return kvfs::quantized(encoding) ? quantized().head_bytes : head_bytes();
  }
  [[nodiscard]] std::uint32_t planes() const { return layers * kv_factor; }
  [[nodiscard]] PackedLayout packed() const { return packed_layout(planes(), tokens, head_dim); }
  [[nodiscard]] QuantizedLayout quantized() const {
    return quantized_layout(planes(), tokens, head_dim);
  }
};
BlockShape block_shape(const Geometry& geometry, std::size_t group);

// A block in host memory (a slab's slot or a bounce buffer), or in the device's own where it is
// said, and its place in the prefix.
struct BlockAt {
  std::byte* memory;
  std::uint32_t block;  // index in the prefix: its first token is block * shape.tokens
};

// Strides, ranges, pointers and page-table length against the blocks wanted; a sentence for what is
// wrong.
Status check_pages(const BlockShape& shape, const Pages& pages, std::uint32_t first_block,
                   std::uint32_t count);

using CopyDone = std::function<void(Status)>;

// A moment in an engine's stream (Device::after); nullptr: none.
using After = std::shared_ptr<void>;

// Threads: calls from any thread. `done` runs on a thread of the device's, or inside the call; of
//          copies in one direction that one thread begins, in their order.
// Owns:    its threads, streams, staging buffers and registrations. Slab mappings and the engine's
//          memory are the caller's and must outlive `done`; an After may outlive the device.
// Blocks:  copies are not waited for, but the CPU device's, which copies in the calling thread;
//          unregister_memory and destruction wait.
// Errors:  done(kIo / kUnavailable) for a device error, done(kInvalid) for memory that is not this
//          device's; all else about arguments is checked by check_pages before.
class Device {
 public:
  virtual ~Device() = default;
  [[nodiscard]] virtual std::string_view name() const = 0;  // "cpu", "cuda:0"

  // Slab memory that copies will use, of slots of `slot_bytes`: lets a GPU pin it, in the
  // background. Copies from memory that is not (yet) registered work, slower.
  virtual void register_memory(std::span<std::byte> memory, std::uint64_t slot_bytes,
                               bool writable) = 0;
  virtual void unregister_memory(std::span<std::byte> memory) = 0;  // waits for copies that use it

  // What the engine's stream has been given up to now comes before the copies that are given the
  // result. The stream is not touched any more afterwards: it may be destroyed. nullptr: no stream.
  virtual Result<After> after(void* stream) = 0;

  // Blocks to pages (load). `blocks` need be valid during the call only.
  virtual void scatter(const BlockShape& shape, std::span<const BlockAt> blocks,
                       std::shared_ptr<const Pages> pages, const After& after, CopyDone done) = 0;
  // Pages to blocks (store); encoded ones with all their layers. Of packed blocks, packed_fits
  // (gpu/pack_codec.h) says afterwards of each head whether it could be packed; a block with one
  // that could not must not be stored.
  virtual void gather(const BlockShape& shape, std::span<const BlockAt> blocks,
                      std::shared_ptr<const Pages> pages, const After& after, CopyDone done) = 0;
  // Whole blocks, memory to memory (opaque layouts): `bytes` each, targets[i] <-> blocks[i].
  virtual void copy_out(std::span<const BlockAt> blocks, std::span<std::byte* const> targets,
                        std::uint64_t bytes, const After& after, CopyDone done) = 0;
  virtual void copy_in(std::span<const BlockAt> blocks, std::span<std::byte* const> sources,
                       std::uint64_t bytes, const After& after, CopyDone done) = 0;

  // Memory of this device that another process has (gpu/shared_memory.h). kMismatch: it is another
  // device's.
  virtual Result<std::unique_ptr<MappedMemory>> map(const SharedHandle& handle) = 0;
  // scatter() and copy_out() of blocks in this device's own memory: nothing goes over the link.
  virtual void scatter_local(const BlockShape& shape, std::span<const BlockAt> blocks,
                             std::shared_ptr<const Pages> pages, const After& after,
                             CopyDone done) = 0;
  virtual void copy_out_local(std::span<const BlockAt> blocks, std::span<std::byte* const> targets,
                              std::uint64_t bytes, const After& after, CopyDone done) = 0;
};

// The CPU device: `threads` copy threads (the caller's included). Always there.
std::unique_ptr<Device> make_cpu_device(std::uint32_t threads);
// kUnavailable with the reason where the driver or the device is missing, or this build has no CUDA
// code.
Result<std::unique_ptr<Device>> make_cuda_device(int ordinal);
// Which device a pointer belongs to: -1 host, else the CUDA ordinal. Host when no CUDA driver is
// loaded in this process. kIo: the driver does not say, since a device is lost; to take its memory
// for the host's would end the process.
Result<int> device_of(const void* pointer);

}  // namespace kvfs::gpu
