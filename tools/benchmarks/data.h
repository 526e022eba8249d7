// What the benchmarks store: geometries, prompts, and an engine's paged KV cache in host memory.
#pragma once

#include <kvfs/kvfs.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lib/format/key.h"
#include "lib/format/result.h"

namespace kvfs::bench {

// One group of layers in BF16.
kvfs_geometry bf16_geometry(const char* model, std::uint32_t block_tokens, kvfs_group group);
// Llama-3.1-8B: blocks of 2 MiB.
kvfs_geometry llama_geometry();
inline constexpr std::uint64_t kLlamaBlockBytes = std::uint64_t{2} << 20;
// The smallest slot there is, 4 KiB: a million blocks fit into memory and on disk.
kvfs_geometry tiny_geometry();
inline constexpr std::uint64_t kTinyBlockBytes = 4096;

inline constexpr std::uint32_t kBlockTokens = 16;

// Prompt number `number` of `blocks` blocks: the same tokens every time, different from all others.
std::vector<Token> make_prompt(std::uint64_t number, std::uint32_t blocks);

// Anonymous memory on huge pages, touched.
// Threads: any. Owns: the mapping. Blocks: the constructor, while touching. Errors: throws
// bad_alloc.
class HugeBuffer {
 public:
  explicit HugeBuffer(std::size_t bytes);
  ~HugeBuffer();
  HugeBuffer(const HugeBuffer&) = delete;
  HugeBuffer& operator=(const HugeBuffer&) = delete;
  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return bytes_; }

 private:
  std::byte* data_;
  std::size_t bytes_;
};

// A KV cache of Llama-3.1-8B for `blocks` blocks, as engines have it: per layer
// [2][pages][heads][16 tokens][128], its pages in a random order.
class PagedCache {
 public:
  explicit PagedCache(std::uint32_t blocks);
  // For a transfer of blocks from 0 on. Valid while this lives.
  [[nodiscard]] kvfs_pages pages() const;
  [[nodiscard]] std::byte* data() const { return memory_.data(); }
  [[nodiscard]] std::size_t size() const { return memory_.size(); }

 private:
  HugeBuffer memory_;
  std::uint32_t pages_;
  std::vector<void*> layers_;
  std::vector<std::int32_t> table_;
};

// Normally distributed BF16 numbers: 1.4 % of them escape when they are packed, near to what real
// models have.
void fill_with_numbers(std::span<std::byte> memory);

// Stores a prompt's blocks, each from the same `block` bytes, and commits. Returns the last one's
// key.
Result<kvfs_key> store_copies(kvfs_client* client, const std::vector<Token>& prompt,
                              std::span<std::byte> block);

}  // namespace kvfs::bench
