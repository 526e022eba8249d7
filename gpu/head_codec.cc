#include "gpu/head_codec.h"

namespace kvfs::gpu {

HeadCodec::HeadCodec(const BlockShape& shape)
    : packs_(shape.encoding == Encoding::kPacked),
      conversion_{.dtype = shape.dtype, .encoding = shape.encoding},
      packed_(packs_ ? shape.packed() : PackedLayout{}),
      quantized_(packs_ ? QuantizedLayout{} : shape.quantized()),
      planes_(shape.planes()),
      head_bytes_(shape.stored_head_bytes()),
      parts_(head_parts(shape)) {}

void HeadCodec::decode(const std::byte* head, std::uint32_t plane, std::byte* values) const {
  if (packs_) {
    unpack_plane(packed_, head, plane, reinterpret_cast<std::uint16_t*>(values));
  } else {
    dequantize_plane(quantized_, conversion_, head, plane, values);
  }
}

HeadCodec::Encoder::Encoder(const HeadCodec& codec, std::byte* head) : codec_(codec), head_(head) {
  if (codec.packs_) packer_.emplace(codec.packed_, head);
}

void HeadCodec::Encoder::add(const std::byte* values) {
  if (packer_) {
    packer_->add(reinterpret_cast<const std::uint16_t*>(values));
  } else {
    quantize_plane(codec_.quantized_, codec_.conversion_, values, plane_++, head_);
  }
}

}  // namespace kvfs::gpu
