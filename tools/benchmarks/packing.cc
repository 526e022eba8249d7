#include "tools/benchmarks/packing.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>

#include "gpu/pack_codec.h"

namespace kvfs::bench {

Packing::Packing(const gpu::BlockShape& shape)
    : shape_(shape),
      layout_(shape.packed()),
      plane_(std::size_t{shape.tokens} * shape.head_dim),
      head_(layout_.head_bytes),
      unpacked_(plane_),
      escapes_(layout_.planes) {}

void Packing::add(std::span<const std::uint16_t> block) {
  bool fits = true;
  for (std::uint32_t head = 0; head < shape_.heads; ++head) {
    fits &= add_head(block.data() + head * plane_ * layout_.planes);
  }
  ++blocks_;
  if (!fits) ++raw_blocks_;
}

bool Packing::add_head(const std::uint16_t* values) {
  gpu::HeadPacker packer(layout_, head_.data());
  for (std::uint32_t plane = 0; plane < layout_.planes; ++plane) {
    packer.add(values + plane * plane_);
  }
  std::uint32_t before = 0;
  for (std::uint32_t plane = 0; plane < layout_.planes; ++plane) {
    std::uint32_t end = 0;
    std::memcpy(&end, head_.data() + plane * sizeof(end), sizeof(end));
    escapes_[plane] += end - before;
    before = end;
  }
  most_escapes_ = std::max(most_escapes_, before);
  if (packer.fits()) compare(values);
  return packer.fits();
}

void Packing::compare(const std::uint16_t* values) {
  for (std::uint32_t plane = 0; plane < layout_.planes; ++plane, values += plane_) {
    gpu::unpack_plane(layout_, head_.data(), plane, unpacked_.data());
    for (std::size_t i = 0; i < plane_; ++i) {
      const auto different = static_cast<std::uint16_t>(unpacked_[i] ^ values[i]);
      bits_different_ += static_cast<std::uint64_t>(std::popcount(different));
    }
  }
}

nlohmann::json Packing::result() const {
  const auto raw = static_cast<double>(blocks_ * shape_.bytes());
  const auto stored = static_cast<double>((blocks_ - raw_blocks_) * shape_.stored_bytes() +
                                          raw_blocks_ * shape_.bytes());
  nlohmann::json layers = nlohmann::json::array();
  for (std::uint32_t layer = 0; layer < shape_.layers; ++layer) layers.push_back(of_layer(layer));
  return {{"tokens", blocks_ * shape_.tokens},        {"blocks", blocks_},
          {"blocks_kept_raw", raw_blocks_},           {"bits_different", bits_different_},
          {"ratio", blocks_ == 0 ? 0 : raw / stored}, {"most_escapes_of_a_head", most_escapes_},
          {"escape_room", layout_.escape_room},       {"layers", layers}};
}

// What the layer takes by itself: its bands, and its own escapes in place of its share of the room.
nlohmann::json Packing::of_layer(std::uint32_t layer) const {
  const double heads = std::max(1.0, static_cast<double>(blocks_) * shape_.heads);
  const double values = heads * static_cast<double>(plane_);
  const double bands = static_cast<double>(layout_.bands) * layout_.band_bytes;
  double stored = 0;
  nlohmann::json escapes = nlohmann::json::array();  // K's and V's share
  for (std::uint32_t kv = 0; kv < shape_.kv_factor; ++kv) {
    const auto count = static_cast<double>(escapes_[layer * shape_.kv_factor + kv]);
    escapes.push_back(count / values);
    stored += heads * (sizeof(std::uint32_t) + bands) + count;
  }
  return {{"layer", layer},
          {"ratio", values * sizeof(std::uint16_t) * shape_.kv_factor / stored},
          {"escapes", escapes}};
}

}  // namespace kvfs::bench
