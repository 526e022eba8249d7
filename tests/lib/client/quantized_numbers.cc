#include "tests/lib/client/quantized_numbers.h"

#include "gpu/quantize_codec.h"

namespace kvfs::test {
namespace {

constexpr std::uint32_t kPlanes = kLayers * 2;
constexpr QuantizedLayout kLayout = quantized_layout(kPlanes, kTokens, kDim);
static_assert(kLayout.errors_at == kErrorsAt && kLayout.numbers_at == kNumbersAt &&
              kLayout.head_bytes == kHeadBytes);

}  // namespace

Expected expected_of(const Values& canonical, const std::string& encoding) {
  const gpu::Conversion conversion{.dtype = DType::kBF16,
                                   .encoding = *encoding_from_name(encoding)};
  const std::size_t heads = canonical.size() / (kPlanes * kPlane);
  Expected made{.heads = std::vector<std::byte>(heads * kHeadBytes),
                .loaded = Values(canonical.size())};
  gpu::QuantizeErrors errors;
  for (std::size_t head = 0; head < heads; ++head) {
    std::byte* const stored = &made.heads[head * kHeadBytes];
    for (std::uint32_t plane = 0; plane < kPlanes; ++plane) {
      const std::size_t at = (head * kPlanes + plane) * kPlane;
      gpu::quantize_plane(kLayout, conversion, reinterpret_cast<const std::byte*>(&canonical[at]),
                          plane, stored, gpu::QuantizeCode::kPlain);
      gpu::dequantize_plane(kLayout, conversion, stored, plane,
                            reinterpret_cast<std::byte*>(&made.loaded[at]),
                            gpu::QuantizeCode::kPlain);
    }
    gpu::add_errors(kLayout, stored, errors);
  }
  made.largest_error = errors.largest;
  return made;
}

}  // namespace kvfs::test
