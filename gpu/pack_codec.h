// Packing and unpacking on the CPU (lib/format/packed_block.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "lib/format/packed_block.h"

namespace kvfs::gpu {

// What a CPU can do; each gives the same bytes.
enum class PackCode : std::uint8_t { kScalar, kAvx2, kAvx512 };
bool has_pack_code(PackCode code);
PackCode best_pack_code();

// Packs the planes of one head, which are given in order.
// Threads: one.
// Owns:    nothing; `head` has layout.head_bytes.
// Blocks:  never.
// Errors:  none; fits() says whether what was packed can be unpacked.
class HeadPacker {
 public:
  HeadPacker(const PackedLayout& layout, std::byte* head, PackCode code = best_pack_code());

  // [tokens][head_dim].
  void add(const std::uint16_t* plane);
  // After the last plane.
  [[nodiscard]] bool fits() const { return escapes_ <= layout_.escape_room; }

 private:
  const PackedLayout& layout_;
  std::byte* const head_;
  const PackCode code_;
  std::uint32_t plane_ = 0;
  std::uint32_t escapes_ = 0;
};

// Where a plane's escapes lie in its head's list, within its room whatever the head's bytes.
struct PlaneEscapes {
  std::uint32_t first, end;
};
PlaneEscapes escapes_of_plane(const PackedLayout& layout, const std::byte* head,
                              std::uint32_t plane);

// Whether a packed head can be unpacked.
bool packed_fits(const PackedLayout& layout, const std::byte* head);

// Writes [tokens][head_dim] and nothing else, whatever the bytes of `head`.
void unpack_plane(const PackedLayout& layout, const std::byte* head, std::uint32_t plane,
                  std::uint16_t* values, PackCode code = best_pack_code());

}  // namespace kvfs::gpu
