#include "tests/gpu/copy_case.h"

#include <array>
#include <numeric>

#include "gpu/pack_codec.h"
#include "gpu/quantize_codec.h"

namespace kvfs::gpu::test {

Case make_case(Random& random, std::uint32_t most_layers, Encoding encoding) {
  Case made;
  BlockShape& shape = made.shape;
  shape.encoding = encoding;
  shape.heads = random.one_of({1, 2, 3, 4, 8});
  shape.layers = random.upto(1, most_layers);
  shape.kv_factor = random.one_of({1, 2, 2});
  if (encoding == Encoding::kRaw) {
    shape.tokens = random.one_of({1, 4, 16, 16, 32});
    shape.element_bytes = random.one_of({1, 2, 4});
    shape.head_dim = random.one_of({8, 16, 20, 64, 80, 128, 576});
  } else {
    shape.tokens = random.one_of({16, 16, 32, 48});
    shape.element_bytes = 2;
    shape.head_dim = random.one_of({8, 16, 40, 64, 80, 128, 576});
  }
  if (quantized(encoding)) {
    shape.tokens = random.one_of({1, 3, 16, 16, 32});
    shape.dtype = std::array{DType::kBF16, DType::kF16, DType::kF32}.at(random.upto(0, 2));
    shape.element_bytes = dtype_bytes(shape.dtype);
  }

  Pages& pages = made.pages;
  const std::uint32_t first_block = random.upto(0, 5);
  const std::uint32_t count = random.upto(1, 9);
  for (std::uint32_t i = 0; i < count; ++i) made.blocks.push_back(first_block + i);
  if (random.upto(0, 2) == 0) random.shuffle(made.blocks);
  pages.first_head = random.upto(0, shape.heads - 1);
  pages.head_count = random.upto(0, shape.heads - pages.first_head);
  const std::uint32_t heads =
      pages.head_count == 0 ? shape.heads - pages.first_head : pages.head_count;
  if (random.upto(0, 1) == 0) {
    pages.first_layer = random.upto(0, shape.layers - 1);
    pages.layer_count = random.upto(0, shape.layers - pages.first_layer);
  }

  const bool paged = random.upto(0, 3) != 0;
  pages.first_token = std::uint64_t{random.upto(0, first_block)} * shape.tokens;
  const std::uint64_t end_token = std::uint64_t{first_block + count} * shape.tokens;
  std::int64_t page_count = 1;
  std::int64_t slots = static_cast<std::int64_t>(end_token - pages.first_token);
  if (paged) {
    pages.page_tokens = random.upto(0, 1) == 0
                            ? shape.tokens * random.one_of({1, 2, 4})
                            : std::max(1U, shape.tokens / random.one_of({1, 2, 4}));
    const auto needed = static_cast<std::uint32_t>(
        (end_token - pages.first_token + pages.page_tokens - 1) / pages.page_tokens);
    page_count = needed + 3;
    std::vector<std::int32_t> all(static_cast<std::size_t>(page_count));
    std::iota(all.begin(), all.end(), 0);
    random.shuffle(all);
    pages.page_table.assign(all.begin(), all.begin() + needed);
    slots = pages.page_tokens;
  }

  const std::int64_t row = std::int64_t{shape.head_dim} * shape.element_bytes;
  const auto gap = [&] {
    return random.upto(0, 3) == 0 ? std::int64_t{random.upto(1, 9)} * shape.element_bytes : 0;
  };
  std::int64_t size = row;
  if (random.upto(0, 1) == 0) {  // NHD
    made.layout = "NHD";
    pages.head_stride = size + gap();
    pages.token_stride = pages.head_stride * heads + gap();
    size = pages.token_stride * slots;
  } else {
    made.layout = "HND";
    pages.token_stride = size + gap();
    pages.head_stride = pages.token_stride * slots + gap();
    size = pages.head_stride * heads;
  }
  std::int64_t layer_bytes = 0;
  if (random.upto(0, 1) == 0) {  // [2, pages, ...]
    made.layout += " kv-outer";
    pages.page_stride = size + gap();
    pages.kv_stride = pages.page_stride * page_count + gap();
    layer_bytes = pages.kv_stride * shape.kv_factor;
  } else {  // [pages, 2, ...]
    made.layout += " page-outer";
    pages.kv_stride = size + gap();
    pages.page_stride = pages.kv_stride * shape.kv_factor + gap();
    layer_bytes = pages.page_stride * page_count;
  }
  // Layers in one tensor or apart, in any order.
  std::vector<std::int64_t> order(shape.layers);
  std::iota(order.begin(), order.end(), 0);
  if (random.upto(0, 1) == 0) random.shuffle(order);
  const bool apart = shape.kv_factor == 2 && random.upto(0, 2) == 0;
  for (const std::int64_t place : order) {
    auto* base = reinterpret_cast<std::byte*>(64 + place * (layer_bytes + 64));
    pages.layers.push_back(base);
    if (apart) pages.layers.push_back(base + pages.kv_stride);
  }
  if (apart) {
    pages.kv_stride = 0;
    made.layout += " apart";
  }
  made.arena_bytes = 128 + static_cast<std::size_t>(shape.layers * (layer_bytes + 64));
  return made;
}

std::pair<std::uint32_t, std::uint32_t> layers_of(const Case& c) {
  const std::uint32_t first = c.pages.first_layer;
  return {first, c.pages.layer_count == 0 ? c.shape.layers : first + c.pages.layer_count};
}

std::size_t slot_bytes(const BlockShape& shape) {
  return (shape.stored_bytes() + 4095) / 4096 * 4096;
}

std::vector<BlockAt> blocks_in(const Case& c, std::byte* slab) {
  std::vector<BlockAt> at;
  for (const std::uint32_t block : c.blocks) {
    at.push_back({slab + at.size() * slot_bytes(c.shape), block});
  }
  return at;
}

Case as_stored(const Case& c) {
  Case all = c;
  if (c.shape.encoding != Encoding::kRaw) all.pages.first_layer = all.pages.layer_count = 0;
  return all;
}

std::shared_ptr<const Pages> placed(const Case& c, std::byte* arena) {
  auto pages = std::make_shared<Pages>(c.pages);
  for (std::byte*& layer : pages->layers) layer = arena + reinterpret_cast<std::uintptr_t>(layer);
  return pages;
}

void store_block(const Case& c, const std::byte* block, std::byte* stored) {
  const BlockShape& s = c.shape;
  const std::uint32_t heads =
      c.pages.head_count == 0 ? s.heads - c.pages.first_head : c.pages.head_count;
  for (std::uint32_t h = c.pages.first_head; h < c.pages.first_head + heads; ++h) {
    const std::byte* from = block + h * s.head_bytes();
    std::byte* to = stored + h * s.stored_head_bytes();
    if (s.encoding == Encoding::kRaw) {
      const std::size_t layer = s.head_bytes() / s.layers;
      const auto [first, end] = layers_of(c);
      std::memcpy(to + first * layer, from + first * layer, (end - first) * layer);
      continue;
    }
    const std::size_t plane = std::size_t{s.tokens} * s.head_dim;
    if (quantized(s.encoding)) {
      for (std::uint32_t p = 0; p < s.planes(); ++p) {
        quantize_plane(s.quantized(), {s.dtype, s.encoding}, from + p * plane * s.element_bytes, p,
                       to, QuantizeCode::kPlain);
      }
      continue;
    }
    const PackedLayout layout = s.packed();
    HeadPacker packer(layout, to, PackCode::kScalar);
    for (std::uint32_t p = 0; p < layout.planes; ++p) {
      packer.add(reinterpret_cast<const std::uint16_t*>(from) + p * plane);
    }
  }
}

std::vector<std::byte> decoded(const BlockShape& s, const std::byte* stored) {
  std::vector<std::byte> block(s.bytes());
  if (s.encoding == Encoding::kRaw) {
    std::memcpy(block.data(), stored, block.size());
    return block;
  }
  const std::size_t plane = std::size_t{s.tokens} * s.head_dim;
  for (std::uint32_t h = 0; quantized(s.encoding) && h < s.heads; ++h) {
    for (std::uint32_t p = 0; p < s.planes(); ++p) {
      dequantize_plane(s.quantized(), {s.dtype, s.encoding}, stored + h * s.stored_head_bytes(), p,
                       block.data() + h * s.head_bytes() + p * plane * s.element_bytes,
                       QuantizeCode::kPlain);
    }
  }
  if (quantized(s.encoding)) return block;
  const PackedLayout layout = s.packed();
  for (std::uint32_t h = 0; h < s.heads; ++h) {
    auto* to = reinterpret_cast<std::uint16_t*>(block.data() + h * s.head_bytes());
    for (std::uint32_t p = 0; p < layout.planes; ++p) {
      unpack_plane(layout, stored + h * layout.head_bytes, p, to + p * plane, PackCode::kScalar);
    }
  }
  return block;
}
}  // namespace kvfs::gpu::test
