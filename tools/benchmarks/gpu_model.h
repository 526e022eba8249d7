// Whose KV the GPU rows move, and how much of it.
#pragma once

#include <kvfs/kvfs.h>

#include <cstdint>
#include <string>
#include <vector>

#include "gpu/device.h"

namespace kvfs::bench {

struct GpuOptions {
  std::string model = "llama-3.1-8b";
  std::uint32_t tensor_parallel = 1;  // the rank measured is the first
  std::uint32_t block_tokens = 16;
  std::uint32_t page_tokens = 16;
  // What one load or store carries; the first gives the rows their plain names.
  std::vector<std::uint64_t> sizes{std::uint64_t{64} << 20, std::uint64_t{256} << 20,
                                   std::uint64_t{1} << 30};
  int device = 0;
  std::string encoding = "raw";
  std::string name;  // stands in the rows' names; empty: the first size has the plain ones
};

// Every model (those that need several GPUs: one rank of them), block sizes of 16 to 256 tokens,
// transfers of one block to 16 GiB: each varied by itself, the others as they are by default.
std::vector<GpuOptions> gpu_sweep(int device);

// A model's KV in BF16 as the engine has it, and the share of it that one rank has.
struct GpuModel {
  std::uint32_t layers = 0, kv_heads = 0, head_dim = 0, kv_factor = 0;
  std::uint32_t block_tokens = 0, page_tokens = 0;
  std::uint32_t rank_heads = 0;
  std::string encoding = "raw";
  [[nodiscard]] bool raw() const { return encoding == "raw"; }
  // What is loaded differs from what was stored.
  [[nodiscard]] bool quantized() const { return encoding == "fp8" || encoding == "int8"; }
  // A row's name says what it is about, where that is not raw blocks.
  [[nodiscard]] std::string row(const std::string& name) const {
    return raw() ? name : name + "_" + encoding;
  }
  [[nodiscard]] std::uint64_t row_bytes() const { return std::uint64_t{head_dim} * 2; }
  [[nodiscard]] std::uint64_t block_bytes() const {
    return row_bytes() * kv_heads * layers * kv_factor * block_tokens;
  }
  [[nodiscard]] std::uint64_t rank_block_bytes() const {
    return block_bytes() / kv_heads * rank_heads;
  }
  [[nodiscard]] kvfs_geometry geometry() const;
  // Of one rank's share of a block.
  [[nodiscard]] gpu::BlockShape rank_shape() const;
};

// kInvalid: no such model, or a rank would have no whole heads.
Result<GpuModel> find_gpu_model(const GpuOptions& options);
std::string gpu_model_names();  // for a help text

}  // namespace kvfs::bench
