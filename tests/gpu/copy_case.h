// What tests of copies copy: random geometries, layouts and ranges, and what a naive reference
// makes of them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gpu/device.h"

namespace kvfs::gpu::test {

// What a test copies: some blocks of a prefix, and pages for them in an arena with gaps.
struct Case {
  BlockShape shape;
  Pages pages;  // layers are offsets into the arena until it is allocated
  std::vector<std::uint32_t> blocks;
  std::size_t arena_bytes;
  std::string layout;
};

class Random {
 public:
  explicit Random(std::uint32_t seed) : engine_(seed) {}
  std::uint32_t upto(std::uint32_t from, std::uint32_t to) {
    return std::uniform_int_distribution<std::uint32_t>(from, to)(engine_);
  }
  std::uint32_t one_of(std::initializer_list<std::uint32_t> values) {
    return values.begin()[upto(0, static_cast<std::uint32_t>(values.size()) - 1)];
  }
  template <typename T>
  void shuffle(std::vector<T>& values) {
    std::shuffle(values.begin(), values.end(), engine_);
  }
  std::vector<std::byte> bytes(std::size_t count) {
    std::vector<std::byte> made(count);
    for (std::byte& byte : made) byte = static_cast<std::byte>(engine_());
    return made;
  }
  // BF16 numbers as an engine's memory has them, with some that are none in between.
  std::vector<std::byte> numbers(std::size_t count) {
    std::vector<std::byte> made = bytes(count);
    std::normal_distribution<float> normal;
    for (std::size_t i = 0; i + 2 <= count; i += 2) {
      if (upto(0, 4999) == 0) continue;
      const float value = normal(engine_);
      std::memcpy(&made[i], reinterpret_cast<const std::byte*>(&value) + 2, 2);
    }
    return made;
  }

 private:
  std::mt19937 engine_;
};

// Of at most `most_layers` layers. Dimensions from the outermost to the innermost get strides that
// leave random gaps.
Case make_case(Random& random, std::uint32_t most_layers, Encoding encoding);

// [first, end) of those that are wanted.
std::pair<std::uint32_t, std::uint32_t> layers_of(const Case& c);

// Blocks of a slab whose slots are as long as the store makes them.
std::size_t slot_bytes(const BlockShape& shape);
std::vector<BlockAt> blocks_in(const Case& c, std::byte* slab);

// The same with what a store takes: encoded blocks whole.
Case as_stored(const Case& c);

// Calls each(offset in a block, offset in the arena) for every row, one element vector at a time.
template <typename Each>
void each_row(const Case& c, std::uint32_t block, const Each& each) {
  const BlockShape& s = c.shape;
  const Pages& p = c.pages;
  const std::size_t row = std::size_t{s.head_dim} * s.element_bytes;
  const std::uint32_t heads = p.head_count == 0 ? s.heads - p.first_head : p.head_count;
  const bool apart = p.layers.size() == std::size_t{s.layers} * s.kv_factor && s.kv_factor == 2;
  for (std::uint32_t h = 0; h < heads; ++h) {
    for (auto [l, end] = layers_of(c); l < end; ++l) {
      for (std::uint32_t kv = 0; kv < s.kv_factor; ++kv) {
        for (std::uint32_t t = 0; t < s.tokens; ++t) {
          const std::size_t in_block =
              (((std::size_t{p.first_head + h} * s.layers + l) * s.kv_factor + kv) * s.tokens + t) *
              row;
          const std::uint64_t position = std::uint64_t{block} * s.tokens + t - p.first_token;
          std::int64_t page = 0;
          auto slot = static_cast<std::int64_t>(position);
          if (p.page_tokens != 0) {
            page = p.page_table[position / p.page_tokens];
            slot = static_cast<std::int64_t>(position % p.page_tokens);
          }
          const auto base = reinterpret_cast<std::int64_t>(p.layers[apart ? l * 2 + kv : l]);
          const std::int64_t in_arena = base + (apart ? 0 : kv * p.kv_stride) +
                                        page * p.page_stride + slot * p.token_stride +
                                        h * p.head_stride;
          each(in_block, static_cast<std::size_t>(in_arena), row);
        }
      }
    }
  }
}

std::shared_ptr<const Pages> placed(const Case& c, std::byte* arena);

// The wanted heads and layers of a block as they are stored; `stored` keeps the others.
void store_block(const Case& c, const std::byte* block, std::byte* stored);

// A whole stored block as an engine sees it: for encoded ones, whatever their bytes say.
std::vector<std::byte> decoded(const BlockShape& s, const std::byte* stored);

}  // namespace kvfs::gpu::test
