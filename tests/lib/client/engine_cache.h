// An engine's KV cache for tests: numbers that say where they belong, in several layouts.
#pragma once

#include <kvfs/kvfs.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace kvfs::test {

// Geometries small enough for quick tests.
struct ModelShape {
  std::uint32_t layers = 4, heads = 4, dim = 16, kv = 2, block_tokens = 16;
  std::uint32_t window = 0;
};

inline kvfs_geometry c_geometry(const std::vector<ModelShape>& groups, const char* model = "test") {
  kvfs_geometry geometry{};
  geometry.model = model;
  geometry.dtype = KVFS_F32;
  geometry.block_tokens = groups[0].block_tokens;
  geometry.group_count = static_cast<std::uint32_t>(groups.size());
  for (std::size_t i = 0; i < groups.size(); ++i) {
    geometry.groups[i] = {.layers = groups[i].layers,
                          .kv_heads = groups[i].heads,
                          .head_dim = groups[i].dim,
                          .kv_factor = groups[i].kv,
                          .window = groups[i].window};
  }
  return geometry;
}

// Tokens that differ by seed; the first `shared` of them are those of seed 0.
inline std::vector<std::int32_t> some_tokens(std::size_t count, int seed, std::size_t shared = 0) {
  std::vector<std::int32_t> tokens(count);
  for (std::size_t i = 0; i < count; ++i) {
    const int s = i < shared ? 0 : seed;
    tokens[i] =
        static_cast<std::int32_t>((i * 7919 + static_cast<std::size_t>(s) * 104729) % 50000);
  }
  return tokens;
}

// [layers][kv][heads][tokens][dim] floats of the tokens from `first_token` on, as transformers has
// them but in one allocation; of heads [first_head, first_head + heads).
class EngineCache {
 public:
  EngineCache(const ModelShape& shape, std::size_t tokens, std::size_t first_token = 0,
              std::uint32_t first_head = 0, std::uint32_t heads = 0)
      : shape_(shape),
        tokens_(tokens),
        first_token_(first_token),
        first_head_(first_head),
        heads_(heads == 0 ? shape.heads - first_head : heads),
        data_(std::size_t{shape.layers} * shape.kv * heads_ * tokens * shape.dim, -1.0F) {
    for (std::uint32_t l = 0; l < shape.layers; ++l) {
      layers_.push_back(&data_[std::size_t{l} * shape.kv * heads_ * tokens * shape.dim]);
    }
  }

  // What the model computes for a position: a number that names it.
  static float value(int seed, std::uint32_t layer, std::uint32_t kv, std::uint32_t head,
                     std::size_t token, std::uint32_t dim) {
    const std::uint64_t mixed =
        ((((static_cast<std::uint64_t>(seed) * 131 + layer) * 131 + kv) * 131 + head) * 1000003 +
         token) *
            131 +
        dim;
    return static_cast<float>((mixed * 0x9e3779b97f4a7c15ULL) >> 41);
  }

  void fill(int seed) {
    each([&](float& at, float expected) { at = expected; }, seed, first_token_, end_token());
  }
  // Whether tokens [from, to) are those of `seed`, in the first `layers` layers (0: all).
  [[nodiscard]] bool holds(int seed, std::size_t from, std::size_t to, std::uint32_t layers = 0) {
    bool same = true;
    each([&](float& at, float expected) { same = same && at == expected; }, seed, from, to, layers);
    return same;
  }
  [[nodiscard]] bool untouched(std::size_t from, std::size_t to) {
    bool same = true;
    each([&](float& at, float) { same = same && at == -1.0F; }, 0, from, to);
    return same;
  }

  [[nodiscard]] kvfs_pages pages() {
    kvfs_pages pages{};
    const auto row = static_cast<std::int64_t>(shape_.dim * sizeof(float));
    pages.size = sizeof(pages);
    pages.layer_count = shape_.layers;
    pages.layers = layers_.data();
    pages.token_stride = row;
    pages.head_stride = row * static_cast<std::int64_t>(tokens_);
    pages.kv_stride = pages.head_stride * heads_;
    pages.first_head = first_head_;
    pages.head_count = heads_;
    pages.first_token = first_token_;
    return pages;
  }
  [[nodiscard]] std::size_t end_token() const { return first_token_ + tokens_; }

 private:
  template <typename Each>
  void each(const Each& visit, int seed, std::size_t from, std::size_t to,
            std::uint32_t layers = 0) {
    for (std::uint32_t l = 0; l < (layers == 0 ? shape_.layers : layers); ++l) {
      for (std::uint32_t kv = 0; kv < shape_.kv; ++kv) {
        for (std::uint32_t h = 0; h < heads_; ++h) {
          for (std::size_t t = from; t < to; ++t) {
            for (std::uint32_t d = 0; d < shape_.dim; ++d) {
              float& at = data_[(((std::size_t{l} * shape_.kv + kv) * heads_ + h) * tokens_ +
                                 (t - first_token_)) *
                                    shape_.dim +
                                d];
              visit(at, value(seed, l, kv, h + first_head_, t, d));
            }
          }
        }
      }
    }
  }

  ModelShape shape_;
  std::size_t tokens_, first_token_;
  std::uint32_t first_head_, heads_;
  std::vector<float> data_;
  std::vector<void*> layers_;
};

}  // namespace kvfs::test
