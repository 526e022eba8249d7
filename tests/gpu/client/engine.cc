#include "tests/gpu/client/engine.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

namespace kvfs::test {
namespace {

constexpr std::uint32_t kSparePages = 3;

std::byte value(int seed, std::uint64_t row, std::uint32_t byte) {
  std::uint64_t mixed = (row * 1000003 + byte) * 131 + static_cast<std::uint64_t>(seed);
  mixed *= 0x9e3779b97f4a7c15ULL;
  return static_cast<std::byte>(mixed >> 56);
}

// The upper half of a float: BF16, where nothing is lost.
std::uint16_t bf16(float number) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &number, sizeof(bits));
  return static_cast<std::uint16_t>(bits >> 16);
}

// BF16 numbers that an encoding gives back bit for bit. Packed: any sign and mantissa, exponents
// that lie close together. Quantized: each row begins with the largest number that is stored, which
// makes a scale of 1, and has such as are stored besides.
std::uint16_t number(const std::string& encoding, int seed, std::uint64_t row,
                     std::uint32_t element) {
  const auto any = std::to_integer<unsigned>(value(seed, row, 2 * element));
  const auto more = std::to_integer<unsigned>(value(seed, row, 2 * element + 1));
  if (encoding == "fp8") {
    if (element == 0) return bf16(448);
    const float magnitude =
        std::ldexp(static_cast<float>(8 + more % 8), static_cast<int>(any % 13) - 8);
    return bf16(more % 16 < 8 ? magnitude : -magnitude);
  }
  if (encoding == "int8") {
    return bf16(element == 0 ? 127 : static_cast<float>(any % 255) - 127);
  }
  return static_cast<std::uint16_t>(any | (more & 0x80U) << 8 | (0x3dU + (more & 0x7fU) % 3) << 8);
}

}  // namespace

kvfs_geometry Model::geometry() const {
  kvfs_geometry made{};
  made.model = "test/gpu";
  made.dtype = dtype;
  made.block_tokens = block_tokens;
  made.encoding = encoding.c_str();
  made.group_count = 1;
  made.groups[0] = {
      .layers = layers, .kv_heads = heads, .head_dim = dim, .kv_factor = kv, .window = 0};
  return made;
}

Engine::Engine(gpu::test::Where where, const Model& model, const Layout& layout,
               std::uint32_t tokens)
    : model_(model), layout_(layout), tokens_(tokens) {
  if (layout_.heads == 0) layout_.heads = model.heads - layout.first_head;
  const bool paged = layout.page_tokens != 0;
  const std::uint32_t needed = paged ? (tokens + layout.page_tokens - 1) / layout.page_tokens : 1;
  const std::uint32_t pages = paged ? needed + kSparePages : 1;
  std::size_t size = model.row_bytes();
  for (auto place = layout.axes.rbegin(); place != layout.axes.rend(); ++place) {
    const auto axis = static_cast<unsigned char>(*place);
    strides_[axis] = size;
    switch (axis) {
      case 'L':
        size *= model.layers;
        break;
      case 'K':
        size *= model.kv;
        break;
      case 'P':
        size *= pages;
        break;
      case 'T':
        size *= paged ? layout.page_tokens : tokens;
        break;
      default:
        size *= layout_.heads;
        break;
    }
  }
  bytes_ = size;
  memory_ = gpu::test::allocate(where, bytes_);
  for (std::uint32_t layer = 0; layer < model.layers; ++layer) {
    std::byte* const at = memory_->base() + layer * strides_['L'];
    layers_.push_back(at);
    if (layout.kv_apart) layers_.push_back(at + strides_['K']);
  }
  if (paged) {
    table_.resize(pages);
    std::iota(table_.begin(), table_.end(), 0);
    std::ranges::shuffle(table_, std::mt19937(tokens));
    table_.resize(needed);
  }
  clear();
}

kvfs_pages Engine::pages() const {
  kvfs_pages made{};
  made.size = sizeof(made);
  made.layer_count = static_cast<std::uint32_t>(layers_.size());
  made.layers = layers_.data();
  made.kv_stride = layout_.kv_apart ? 0 : static_cast<std::int64_t>(strides_['K']);
  made.page_stride = static_cast<std::int64_t>(strides_['P']);
  made.token_stride = static_cast<std::int64_t>(strides_['T']);
  made.head_stride = static_cast<std::int64_t>(strides_['H']);
  made.first_head = layout_.first_head;
  made.head_count = layout_.heads;
  if (!table_.empty()) {
    made.page_tokens = layout_.page_tokens;
    made.page_count = static_cast<std::uint32_t>(table_.size());
    made.page_table = table_.data();
  }
  return made;
}

std::vector<std::byte> Engine::image(int seed, std::uint32_t from, std::uint32_t to) const {
  std::vector<std::byte> made(bytes_, std::byte{kGap});
  const std::uint32_t row_bytes = model_.row_bytes();
  for (std::uint32_t token = from; token < to; ++token) {
    std::size_t at_token = token * strides_['T'];
    if (!table_.empty()) {
      at_token = static_cast<std::size_t>(table_[token / layout_.page_tokens]) * strides_['P'] +
                 token % layout_.page_tokens * strides_['T'];
    }
    for (std::uint32_t layer = 0; layer < model_.layers; ++layer) {
      for (std::uint32_t kv = 0; kv < model_.kv; ++kv) {
        for (std::uint32_t head = 0; head < layout_.heads; ++head) {
          const std::uint64_t row =
              ((std::uint64_t{token} * model_.layers + layer) * model_.kv + kv) * model_.heads +
              head + layout_.first_head;
          std::byte* const to_row =
              &made[at_token + layer * strides_['L'] + kv * strides_['K'] + head * strides_['H']];
          for (std::uint32_t byte = 0; byte < row_bytes; ++byte) {
            to_row[byte] =
                model_.encoding == "raw"
                    ? value(seed, row, byte)
                    : std::byte(number(model_.encoding, seed, row, byte / 2) >> (byte % 2 * 8));
          }
        }
      }
    }
  }
  return made;
}

void Engine::clear() { memory_->upload(std::vector<std::byte>(bytes_, std::byte{kGap})); }

void Engine::fill(int seed) { memory_->upload(image(seed, 0, tokens_)); }

bool Engine::holds(int seed, std::uint32_t from, std::uint32_t to) const {
  std::vector<std::byte> found(bytes_);
  memory_->download(found);
  return found == image(seed, from, to);
}

bool Engine::holds_layers(int seed, std::uint32_t layers) const {
  std::vector<std::byte> found(layers * strides_['L']);
  memory_->download(found);
  const std::vector<std::byte> wanted = image(seed, 0, tokens_);
  return std::ranges::equal(found, std::span(wanted).first(found.size()));
}

}  // namespace kvfs::test
