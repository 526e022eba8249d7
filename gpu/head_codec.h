// HeadCodec: the planes of one KV head as a block's encoding stores them, on the CPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "gpu/device.h"
#include "gpu/layer_part.h"
#include "gpu/pack_codec.h"
#include "gpu/quantize_codec.h"

namespace kvfs::gpu {

// Threads: immutable; calls from any thread.
// Owns:    nothing of the heads.
// Blocks:  never.
// Errors:  none. A packed head says itself whether it fits (packed_fits).
class HeadCodec {
 public:
  explicit HeadCodec(const BlockShape& shape);  // not kRaw

  [[nodiscard]] std::uint32_t planes() const { return planes_; }
  [[nodiscard]] std::uint64_t head_bytes() const { return head_bytes_; }  // stored
  // Where most of a plane lies in the head.
  struct Part {
    std::uint64_t at, bytes;
  };
  [[nodiscard]] Part part(std::uint32_t plane) const {
    return {parts_.header_bytes + plane * parts_.each, parts_.each};
  }

  // Writes [tokens][head_dim] and nothing else, whatever the bytes of `head`; `values` is aligned
  // to an element.
  void decode(const std::byte* head, std::uint32_t plane, std::byte* values) const;

  // Encodes the planes of one head, which are given in order.
  class Encoder {
   public:
    Encoder(const HeadCodec& codec, std::byte* head);
    void add(const std::byte* values);

   private:
    const HeadCodec& codec_;
    std::byte* const head_;
    std::optional<HeadPacker> packer_;
    std::uint32_t plane_ = 0;
  };

 private:
  const bool packs_;
  const Conversion conversion_;
  const PackedLayout packed_;
  const QuantizedLayout quantized_;
  std::uint32_t planes_;
  std::uint64_t head_bytes_;
  HeadParts parts_;
};

}  // namespace kvfs::gpu
