// KV of a real model for benchmarks to move, whatever the shape they move it in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "gpu/device.h"

namespace kvfs::bench {

// Canonical BF16 blocks of SmolLM2-135M, as real_kv.py writes them, tiled: each band, 16 tokens of
// one head in one layer, stays whole, so that 16 tokens of a channel are those of a real text.
// Layer l is the model's layer l % 30, K is K and V is V; a head of 128 channels is two bands side
// by side, a block of 64 tokens four bands one after the other, and so on through the file and
// again. Threads: any. Owns:    the file's bytes. Blocks:  reading. Errors:  kNotFound, kIo: no
// such file; kInvalid: it is not whole blocks.
class RealKv {
 public:
  static Result<std::shared_ptr<const RealKv>> read(const std::string& file);
  explicit RealKv(std::string blocks);
  [[nodiscard]] std::uint64_t blocks() const;
  // kInvalid: heads or blocks of this shape are not made of whole bands.
  [[nodiscard]] Status fits(const gpu::BlockShape& shape) const;
  // The number'th block of a shape that fits, canonical.
  void block(std::uint64_t number, const gpu::BlockShape& shape, std::span<std::byte> to) const;

 private:
  [[nodiscard]] const std::byte* band(std::uint64_t number, std::uint32_t layer,
                                      std::uint32_t kv) const;
  std::string bytes_;
};

// The real KV into an engine's pages in host memory: `blocks` of them from 0 on.
Status fill_pages(const RealKv& kv, gpu::BlockShape shape, const gpu::Pages& pages,
                  std::uint32_t blocks);
// What an engine's pages in host memory hold, as it comes back when it is stored in blocks of this
// shape (and encoding) and loaded.
Status store_and_load(const gpu::BlockShape& shape, const gpu::Pages& pages, std::uint32_t blocks);

}  // namespace kvfs::bench
