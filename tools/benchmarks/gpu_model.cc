#include "tools/benchmarks/gpu_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "tools/benchmarks/data.h"

namespace kvfs::bench {
namespace {

struct Known {
  std::string_view name;
  std::uint32_t layers, kv_heads, head_dim, kv_factor;
  std::uint32_t usual_ranks;  // GPUs that serve it together
};
constexpr std::array<Known, 5> kModels{{{"llama-3.1-8b", 32, 8, 128, 2, 1},
                                        {"llama-3.1-70b", 80, 8, 128, 2, 8},
                                        {"qwen2.5-32b", 64, 8, 128, 2, 1},
                                        {"deepseek-v3", 61, 1, 576, 1, 1},
                                        {"smollm2-135m", 30, 3, 64, 2, 1}}};
constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

}  // namespace

kvfs_geometry GpuModel::geometry() const {
  kvfs_geometry geometry = bf16_geometry("bench/gpu", block_tokens,
                                         {.layers = layers,
                                          .kv_heads = kv_heads,
                                          .head_dim = head_dim,
                                          .kv_factor = kv_factor,
                                          .window = 0});
  geometry.encoding = encoding.c_str();
  return geometry;
}

gpu::BlockShape GpuModel::rank_shape() const {
  return {.heads = rank_heads,
          .layers = layers,
          .kv_factor = kv_factor,
          .tokens = block_tokens,
          .head_dim = head_dim,
          .element_bytes = 2,
          .encoding = encoding_from_name(encoding).value_or(Encoding::kRaw)};
}

std::string gpu_model_names() {
  std::string names;
  for (const Known& known : kModels) names += (names.empty() ? "" : ", ") + std::string(known.name);
  return names;
}

std::vector<GpuOptions> gpu_sweep(int device) {
  std::vector<GpuOptions> made;
  const auto add = [&](const Known& model, std::uint32_t block_tokens,
                       std::vector<std::uint64_t> sizes) {
    made.push_back({.model = std::string(model.name),
                    .tensor_parallel = model.usual_ranks,
                    .block_tokens = block_tokens,
                    .sizes = std::move(sizes),
                    .device = device,
                    .name = fmt::format("_{}_b{}", model.name, block_tokens)});
  };
  for (const Known& model : kModels) add(model, 16, {256 * kMiB});
  for (const std::uint32_t block_tokens : {64U, 256U}) {
    add(kModels.front(), block_tokens, {256 * kMiB});
  }
  add(kModels.front(), 16, {1, 16 * kMiB, 64 * kMiB, 1024 * kMiB, 4096 * kMiB, 16384 * kMiB});
  return made;
}

Result<GpuModel> find_gpu_model(const GpuOptions& options) {
  const auto* const known = std::ranges::find(kModels, options.model, &Known::name);
  if (known == kModels.end()) {
    return fail(Code::kInvalid, fmt::format("there is no model {}: use one of {}", options.model,
                                            gpu_model_names()));
  }
  if (options.tensor_parallel == 0 || known->kv_heads % options.tensor_parallel != 0) {
    return fail(Code::kInvalid,
                fmt::format("{} has {} KV heads, which {} ranks cannot share evenly", known->name,
                            known->kv_heads, options.tensor_parallel));
  }
  return GpuModel{.layers = known->layers,
                  .kv_heads = known->kv_heads,
                  .head_dim = known->head_dim,
                  .kv_factor = known->kv_factor,
                  .block_tokens = options.block_tokens,
                  .page_tokens = options.page_tokens,
                  .rank_heads = known->kv_heads / options.tensor_parallel,
                  .encoding = options.encoding};
}

}  // namespace kvfs::bench
