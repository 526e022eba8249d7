#include "gpu/block_codec.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "gpu/pack_codec.h"

namespace kvfs::gpu {
namespace {

std::size_t values_of_plane(const BlockShape& shape) {
  return std::size_t{shape.tokens} * shape.head_dim;
}

// This thread's plane; kept from one call to the next.
std::uint16_t* plane_buffer(std::size_t values) {
  thread_local std::vector<std::uint16_t> buffer;
  if (buffer.size() < values) buffer.resize(values);
  return buffer.data();
}

bool pack_block(const BlockShape& shape, const std::byte* canonical, std::byte* packed) {
  const PackedLayout layout = shape.packed();
  const std::size_t values = values_of_plane(shape);
  const std::size_t plane_bytes = values * sizeof(std::uint16_t);
  std::uint16_t* const buffer = plane_buffer(values);
  bool fits = true;
  for (std::uint32_t head = 0; head < shape.heads; ++head, packed += layout.head_bytes) {
    HeadPacker packer(layout, packed);
    for (std::uint32_t plane = 0; plane < layout.planes; ++plane, canonical += plane_bytes) {
      std::memcpy(buffer, canonical, plane_bytes);  // it may lie at any address
      packer.add(buffer);
    }
    fits = fits && packer.fits();
  }
  return fits;
}

void unpack_bytes(const BlockShape& shape, const std::byte* packed, std::uint64_t from,
                  std::uint64_t to, std::byte* out) {
  const PackedLayout layout = shape.packed();
  const std::uint64_t plane_bytes = values_of_plane(shape) * sizeof(std::uint16_t);
  while (from < to) {
    const std::uint64_t plane = from / plane_bytes;  // counted through all heads
    const std::uint64_t within = from % plane_bytes;
    const std::uint64_t size = std::min(plane_bytes - within, to - from);
    const std::byte* const head = packed + plane / layout.planes * layout.head_bytes;
    const auto in_head = static_cast<std::uint32_t>(plane % layout.planes);
    const bool in_place =
        size == plane_bytes && reinterpret_cast<std::uintptr_t>(out) % alignof(std::uint16_t) == 0;
    if (in_place) {
      unpack_plane(layout, head, in_head, reinterpret_cast<std::uint16_t*>(out));
    } else {
      std::uint16_t* const buffer = plane_buffer(values_of_plane(shape));
      unpack_plane(layout, head, in_head, buffer);
      std::memcpy(out, reinterpret_cast<const std::byte*>(buffer) + within, size);
    }
    out += size;
    from += size;
  }
}

// A tensor of a quantized block lies in its heads, one part in each.
struct HeadPart {
  std::uint64_t at, bytes;
};
HeadPart head_part(const QuantizedLayout& layout, BlockTensor tensor) {
  if (tensor == BlockTensor::kNumbers) {
    return {layout.numbers_at, std::uint64_t{layout.planes} * layout.plane_values};
  }
  return {tensor == BlockTensor::kScales ? 0 : layout.errors_at, layout.planes * sizeof(float)};
}

void copy_parts(const BlockShape& shape, BlockTensor tensor, const std::byte* stored,
                std::uint64_t from, std::uint64_t to, std::byte* out) {
  const HeadPart part = head_part(shape.quantized(), tensor);
  while (from < to) {
    const std::uint64_t within = from % part.bytes;
    const std::uint64_t size = std::min(part.bytes - within, to - from);
    std::memcpy(out, stored + from / part.bytes * shape.stored_head_bytes() + part.at + within,
                size);
    out += size;
    from += size;
  }
}

}  // namespace

bool write_tensor(const BlockShape& shape, BlockTensor tensor, const std::byte* values,
                  std::byte* stored) {
  if (shape.encoding == Encoding::kPacked) return pack_block(shape, values, stored);
  const HeadPart part = head_part(shape.quantized(), tensor);
  for (std::uint32_t head = 0; head < shape.heads; ++head, values += part.bytes) {
    std::memcpy(stored + head * shape.stored_head_bytes() + part.at, values, part.bytes);
  }
  return true;
}

void read_tensor(const BlockShape& shape, BlockTensor tensor, const std::byte* stored,
                 std::uint64_t from, std::uint64_t to, std::byte* out) {
  if (shape.encoding == Encoding::kPacked) {
    unpack_bytes(shape, stored, from, to, out);
  } else {
    copy_parts(shape, tensor, stored, from, to, out);
  }
}

bool block_fits(const BlockShape& shape, const std::byte* packed) {
  const PackedLayout layout = shape.packed();
  for (std::uint32_t head = 0; head < shape.heads; ++head, packed += layout.head_bytes) {
    if (!packed_fits(layout, packed)) return false;
  }
  return true;
}

void add_block_errors(const BlockShape& shape, const std::byte* stored, QuantizeErrors& errors) {
  const QuantizedLayout layout = shape.quantized();
  for (std::uint32_t head = 0; head < shape.heads; ++head, stored += layout.head_bytes) {
    add_errors(layout, stored, errors);
  }
}

}  // namespace kvfs::gpu
