// How a block's tokens fall into an engine's pages.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "gpu/device.h"

namespace kvfs::gpu {

// Consecutive tokens of a block that are a constant token_stride apart in the engine's memory.
struct Segment {
  std::uint32_t token;  // first of them, counted in the block
  std::uint32_t tokens;
  std::int64_t offset;  // bytes from a layer's base to head 0 of that token
};

// Calls each(Segment) for the tokens of `block`, in order. The pages must have passed check_pages.
template <typename Each>
void for_each_segment(const BlockShape& shape, const Pages& pages, std::uint32_t block,
                      Each&& each) {
  const std::uint64_t first = std::uint64_t{block} * shape.tokens - pages.first_token;
  if (pages.page_tokens == 0) {
    each(Segment{0, shape.tokens, static_cast<std::int64_t>(first) * pages.token_stride});
    return;
  }
  for (std::uint32_t token = 0; token < shape.tokens;) {
    const std::uint64_t position = first + token;
    const auto slot = static_cast<std::uint32_t>(position % pages.page_tokens);
    const std::uint32_t tokens = std::min(shape.tokens - token, pages.page_tokens - slot);
    const std::int64_t page = pages.page_table[position / pages.page_tokens];
    each(
        Segment{token, tokens, page * pages.page_stride + std::int64_t{slot} * pages.token_stride});
    token += tokens;
  }
}

// K and V of a layer have pointers of their own.
inline bool split_kv(const BlockShape& shape, const Pages& pages) {
  return shape.kv_factor > 1 && pages.layers.size() > shape.layers;
}

inline std::byte* layer_base(const BlockShape& shape, const Pages& pages, std::uint32_t layer,
                             std::uint32_t kv) {
  if (split_kv(shape, pages)) return pages.layers[std::size_t{layer} * shape.kv_factor + kv];
  return pages.layers[layer] + kv * pages.kv_stride;
}

inline std::uint32_t layers_wanted(const BlockShape& shape, const Pages& pages) {
  return pages.layer_count == 0 ? shape.layers - pages.first_layer : pages.layer_count;
}

inline std::uint32_t heads_wanted(const BlockShape& shape, const Pages& pages) {
  return pages.head_count == 0 ? shape.heads - pages.first_head : pages.head_count;
}

}  // namespace kvfs::gpu
