#include "gpu/pages.h"

#include <string>

namespace kvfs::gpu {
namespace {

std::string number(std::int64_t value) { return std::to_string(value); }
std::string number(std::uint64_t value) { return std::to_string(value); }
std::string number(std::uint32_t value) { return std::to_string(value); }

// A stride that is used must step over a row and keep elements whole.
Status check_stride(std::string_view name, std::int64_t stride, const BlockShape& shape) {
  const std::int64_t row = std::int64_t{shape.head_dim} * shape.element_bytes;
  const std::int64_t distance = stride < 0 ? -stride : stride;
  const std::string is = std::string(name) + " is " + number(stride);
  if (distance < row) {
    return fail(Code::kInvalid, is + ", less than the " + number(row) +
                                    " bytes of one head's row: give strides in bytes");
  }
  if (stride % shape.element_bytes != 0) {
    return fail(Code::kInvalid, is + ", not a multiple of the element's " +
                                    number(shape.element_bytes) + " bytes: give strides in bytes");
  }
  return {};
}

Status check_layers(const BlockShape& shape, const Pages& pages) {
  const std::size_t apart = std::size_t{shape.layers} * shape.kv_factor;
  if (pages.layers.size() != shape.layers && pages.layers.size() != apart) {
    return fail(Code::kInvalid,
                "layer_count is " + number(std::uint64_t{pages.layers.size()}) +
                    ", the group has " + number(shape.layers) +
                    " layers: give a pointer for each layer" +
                    (shape.kv_factor > 1 ? ", or one for each layer's K and V" : ""));
  }
  for (std::size_t i = 0; i < pages.layers.size(); ++i) {
    if (pages.layers[i] == nullptr) {
      return fail(Code::kInvalid, "layers[" + number(std::uint64_t{i}) +
                                      "] is NULL: give the address of the layer's KV cache");
    }
  }
  return {};
}

Status check_heads(const BlockShape& shape, const Pages& pages) {
  const std::uint64_t end = std::uint64_t{pages.first_head} + pages.head_count;
  if (pages.first_head < shape.heads && end <= shape.heads) return {};
  return fail(Code::kInvalid, "heads [" + number(pages.first_head) + ", " + number(end) +
                                  ") were asked for, a block has " + number(shape.heads) +
                                  " KV heads: give a range inside it");
}

Status check_layer_range(const BlockShape& shape, const Pages& pages) {
  const std::uint64_t end = std::uint64_t{pages.first_layer} + pages.layer_count;
  if (pages.first_layer >= shape.layers || end > shape.layers) {
    return fail(Code::kInvalid, "layers [" + number(pages.first_layer) + ", " + number(end) +
                                    ") were asked for, the group has " + number(shape.layers) +
                                    " layers: give a range inside it");
  }
  return {};
}

Status check_strides(const BlockShape& shape, const Pages& pages) {
  const bool many_tokens = shape.tokens > 1 || pages.page_tokens > 1;
  const bool kv_used = shape.kv_factor > 1 && !split_kv(shape, pages);
  for (const auto& [name, stride, used] :
       {std::tuple{"token_stride", pages.token_stride, many_tokens},
        std::tuple{"head_stride", pages.head_stride, heads_wanted(shape, pages) > 1},
        std::tuple{"kv_stride", pages.kv_stride, kv_used},
        std::tuple{"page_stride", pages.page_stride, pages.page_table.size() > 1}}) {
    if (!used) continue;
    if (Status status = check_stride(name, stride, shape); !status) return status;
  }
  return {};
}

Status check_page_table(const BlockShape& shape, const Pages& pages, std::uint64_t first_token,
                        std::uint64_t end_token) {
  if (pages.page_tokens == 0 && !pages.page_table.empty()) {
    return fail(Code::kInvalid, "page_tokens is 0 with a page table: give the tokens of a page");
  }
  if (pages.page_tokens == 0) return {};
  const std::uint32_t smaller = std::min(pages.page_tokens, shape.tokens);
  const std::uint32_t larger = std::max(pages.page_tokens, shape.tokens);
  if (larger % smaller != 0) {
    return fail(Code::kInvalid, "page_tokens is " + number(pages.page_tokens) +
                                    ", neither a divisor nor a multiple of the block's " +
                                    number(shape.tokens) + " tokens");
  }
  const std::uint64_t needed =
      (end_token - pages.first_token + pages.page_tokens - 1) / pages.page_tokens;
  if (pages.page_table.size() < needed) {
    return fail(Code::kInvalid,
                "the page table has " + number(std::uint64_t{pages.page_table.size()}) +
                    " pages, tokens [" + number(pages.first_token) + ", " + number(end_token) +
                    ") need " + number(needed) + " of " + number(pages.page_tokens) + " tokens");
  }
  for (std::uint64_t i = (first_token - pages.first_token) / pages.page_tokens; i < needed; ++i) {
    if (pages.page_table[i] < 0) {
      return fail(Code::kInvalid, "page_table[" + number(i) + "] is " +
                                      number(std::int64_t{pages.page_table[i]}) +
                                      ": give the page that holds these tokens");
    }
  }
  return {};
}

}  // namespace

BlockShape block_shape(const Geometry& geometry, std::size_t group) {
  const Group& g = geometry.groups[group];
  return {.heads = g.kv_heads,
          .layers = g.layers,
          .kv_factor = g.kv_factor,
          .tokens = geometry.block_tokens,
          .head_dim = g.head_dim,
          .element_bytes = dtype_bytes(geometry.dtype),
          .encoding = geometry.encoding,
          .dtype = geometry.dtype};
}

Status check_pages(const BlockShape& shape, const Pages& pages, std::uint32_t first_block,
                   std::uint32_t count) {
  if (Status status = check_layers(shape, pages); !status) return status;
  if (Status status = check_heads(shape, pages); !status) return status;
  if (Status status = check_layer_range(shape, pages); !status) return status;
  if (Status status = check_strides(shape, pages); !status) return status;
  const std::uint64_t first_token = std::uint64_t{first_block} * shape.tokens;
  if (first_token < pages.first_token) {
    return fail(Code::kInvalid, "block " + number(first_block) + " begins at token " +
                                    number(first_token) + ", before first_token " +
                                    number(pages.first_token) +
                                    ": first_token is the prefix position of the first slot");
  }
  const std::uint64_t end_token = first_token + std::uint64_t{count} * shape.tokens;
  return check_page_table(shape, pages, first_token, end_token);
}

}  // namespace kvfs::gpu
