// An engine's paged KV cache in any order of its axes, in host or device memory.
#pragma once

#include <kvfs/kvfs.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/gpu/engine_memory.h"

namespace kvfs::test {

struct Model {
  std::uint32_t layers = 4, heads = 4, dim = 64, kv = 2, block_tokens = 16;
  kvfs_dtype dtype = KVFS_BF16;
  std::string encoding = "raw";  // and numbers that it stores as they are
  [[nodiscard]] std::uint32_t row_bytes() const { return dim * (dtype == KVFS_F32 ? 4 : 2); }
  [[nodiscard]] kvfs_geometry geometry() const;
};

// How a cache lies in memory. `axes` from the outermost to the innermost: L layer, K key or value,
// P page, T token of a page, H head; one head's row is innermost of all.
struct Layout {
  std::string axes = "LKPTH";
  std::uint32_t page_tokens = 16;  // 0: strided
  bool kv_apart = false;           // a pointer for each of K and V
  std::uint32_t first_head = 0;
  std::uint32_t heads = 0;  // 0: all from first_head
};

// Every byte of a cache depends on what it is the KV of; bytes that no token has are kGap.
// Threads: one.
// Owns:    the memory.
// Blocks:  filling and checking.
// Errors:  throws.
class Engine {
 public:
  static constexpr unsigned char kGap = 0xee;
  Engine(gpu::test::Where where, const Model& model, const Layout& layout, std::uint32_t tokens);

  [[nodiscard]] kvfs_pages pages() const;
  [[nodiscard]] std::byte* base() const { return memory_->base(); }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

  void clear();
  void fill(int seed);  // all tokens
  // What fill() writes, in host memory.
  [[nodiscard]] std::vector<std::byte> filled(int seed) const { return image(seed, 0, tokens_); }
  // Tokens [from, to) are those of `seed`, and no other byte was touched.
  [[nodiscard]] bool holds(int seed, std::uint32_t from, std::uint32_t to) const;
  // The first `layers` layers are those of `seed`; the others may be anything. L is outermost.
  [[nodiscard]] bool holds_layers(int seed, std::uint32_t layers) const;
  std::vector<void*>& layers() { return layers_; }
  std::vector<std::int32_t>& table() { return table_; }

 private:
  [[nodiscard]] std::vector<std::byte> image(int seed, std::uint32_t from, std::uint32_t to) const;

  Model model_;
  Layout layout_;
  std::uint32_t tokens_;
  std::size_t strides_[128] = {};  // by the axis' letter
  std::size_t bytes_ = 0;
  std::unique_ptr<gpu::test::EngineMemory> memory_;
  std::vector<void*> layers_;
  std::vector<std::int32_t> table_;
};

}  // namespace kvfs::test
