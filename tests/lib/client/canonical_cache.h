// Blocks of BF16 numbers, an engine's cache that has them, and what a prefix file shows of them.
#pragma once

#include <kvfs/kvfs.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

namespace kvfs::test {

constexpr std::uint32_t kHeads = 4, kLayers = 5, kTokens = 16, kDim = 64;
constexpr std::size_t kPlane = std::size_t{kTokens} * kDim;
constexpr std::size_t kBlock = std::size_t{kHeads} * kLayers * 2 * kPlane;

using Values = std::vector<std::uint16_t>;

inline std::uint16_t bf16(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return static_cast<std::uint16_t>(bits >> 16);
}

// Canonical blocks, one after the other, as keys and values are.
inline Values some_values(std::size_t blocks, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Values values(blocks * kBlock);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = bf16(normal(random) * static_cast<float>(1 + i % kDim % 7));
  }
  return values;
}

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// Where a tensor lies in a safetensors file.
inline std::size_t offset_of(const std::string& content, const char* tensor) {
  std::uint64_t length = 0;
  std::memcpy(&length, content.data(), sizeof(length));
  const auto header = nlohmann::json::parse(content.substr(8, length));
  return 8 + length + header[tensor]["data_offsets"][0].get<std::size_t>();
}

// An engine's cache of the order [layers][kv][tokens][heads][dim], of some of the heads.
class Cache {
 public:
  explicit Cache(std::size_t blocks, std::uint32_t first_head = 0, std::uint32_t heads = kHeads)
      : blocks_(blocks), first_(first_head), heads_(heads), data_(blocks * kBlock, 0xeeee) {
    for (std::size_t layer = 0; layer < kLayers; ++layer) {
      layers_.push_back(&data_[at(layer, 0, 0, 0)]);
    }
  }
  void fill(const Values& canonical) {
    each(canonical, [](std::uint16_t& mine, std::uint16_t theirs) { mine = theirs; });
  }
  [[nodiscard]] bool holds(const Values& canonical) {
    bool same = true;
    each(canonical,
         [&](std::uint16_t& mine, std::uint16_t theirs) { same = same && mine == theirs; });
    return same;
  }
  [[nodiscard]] kvfs_pages pages() {
    kvfs_pages pages{};
    pages.size = sizeof(pages);
    pages.layer_count = kLayers;
    pages.layers = layers_.data();
    pages.head_stride = kDim * 2;
    pages.token_stride = pages.head_stride * heads_;
    pages.kv_stride = pages.token_stride * static_cast<std::int64_t>(blocks_ * kTokens);
    pages.first_head = first_;
    pages.head_count = heads_;
    return pages;
  }

 private:
  [[nodiscard]] std::size_t at(std::size_t layer, std::size_t kv, std::size_t token,
                               std::size_t head) const {
    return (((layer * 2 + kv) * blocks_ * kTokens + token) * heads_ + head) * kDim;
  }
  template <typename Each>
  void each(const Values& canonical, const Each& visit) {
    for (std::size_t block = 0; block < blocks_; ++block) {
      for (std::size_t head = 0; head < heads_; ++head) {
        for (std::size_t plane = 0; plane < std::size_t{kLayers} * 2; ++plane) {
          for (std::size_t token = 0; token < kTokens; ++token) {
            const std::size_t from =
                block * kBlock + ((first_ + head) * kLayers * 2 + plane) * kPlane + token * kDim;
            const std::size_t to = at(plane / 2, plane % 2, block * kTokens + token, head);
            for (std::size_t d = 0; d < kDim; ++d) visit(data_[to + d], canonical[from + d]);
          }
        }
      }
    }
  }

  std::size_t blocks_;
  std::uint32_t first_, heads_;
  Values data_;
  std::vector<void*> layers_;
};

}  // namespace kvfs::test
