// Between blocks (in a staging buffer, or in host memory that the GPU reaches) and an engine's
// pages.
#include "gpu/cuda_kernels.h"

#include "gpu/cuda_pack.cuh"
#include "gpu/cuda_quantize.cuh"

namespace kvfs::gpu {
namespace {

// V: the widest vector that all addresses and strides are multiples of.
template <typename V, bool kToPages>
__device__ __forceinline__ void move_runs(const CudaMove& move) {
  const uint32_t vectors = move.row_bytes / sizeof(V);  // of a row
  const uint64_t plane = uint64_t{move.block_tokens} * move.row_bytes;
  const uint32_t runs = move.tile_count * move.heads * move.layers * move.kv_factor;
  const auto* pointers = reinterpret_cast<char* const*>(move.tables);
  const auto* tiles = reinterpret_cast<const CudaTile*>(move.tables + move.tiles_at);
  for (uint32_t run = blockIdx.x; run < runs; run += gridDim.x) {
    const uint32_t kv = run % move.kv_factor;
    const uint32_t layer = run / move.kv_factor % move.layers;
    const uint32_t head = run / (move.kv_factor * move.layers) % move.heads;
    const uint32_t index = run / (move.kv_factor * move.layers * move.heads);
    const CudaTile tile = tiles[index];

    char* base = move.kv_apart != 0 ? pointers[layer * move.kv_factor + kv]
                                    : pointers[layer] + kv * move.kv_stride;
    char* page = base + tile.offset + head * move.head_stride;
    const uint64_t row =
        (uint64_t{head} * move.layer_total + move.first_layer + layer) * move.kv_factor + kv;
    char* block =
        reinterpret_cast<char*>(tile.block) + row * plane + uint64_t{tile.token} * move.row_bytes;
    for (uint32_t v = threadIdx.x; v < tile.tokens * vectors; v += blockDim.x) {
      const uint32_t token = v / vectors;
      V* in_page = reinterpret_cast<V*>(page + token * move.token_stride) + v % vectors;
      V* in_block = reinterpret_cast<V*>(block) + v;
      if (kToPages) {
        *in_page = *in_block;
      } else {
        *in_block = *in_page;
      }
    }
  }
}

// From blocks in the device's own memory, where nothing but that memory limits: a block of threads
// takes several runs at a time, with all their loads under way, and the heads of a page, which lie
// side by side there, one after the other. Layers come last: what all blocks of threads touch at a
// time lies in few of the pages that the device translates.
constexpr int kRunsAtOnce = 4;

template <typename V>
__device__ __forceinline__ void scatter_local(const CudaMove& move) {
  const uint32_t vectors = move.row_bytes / sizeof(V);  // of a row
  const uint64_t plane = uint64_t{move.block_tokens} * move.row_bytes;
  const uint32_t runs = move.tile_count * move.heads * move.layers * move.kv_factor;
  const auto* pointers = reinterpret_cast<char* const*>(move.tables);
  const auto* tiles = reinterpret_cast<const CudaTile*>(move.tables + move.tiles_at);
  for (uint32_t first = blockIdx.x * kRunsAtOnce; first < runs; first += gridDim.x * kRunsAtOnce) {
    char* page[kRunsAtOnce];
    const char* block[kRunsAtOnce];
    uint32_t tokens[kRunsAtOnce];
    uint32_t most = 0;
#pragma unroll
    for (int i = 0; i < kRunsAtOnce; ++i) {
      uint32_t run = min(first + i, runs - 1);
      const uint32_t head = run % move.heads;
      run /= move.heads;
      const uint32_t kv = run % move.kv_factor;
      run /= move.kv_factor;
      const CudaTile tile = tiles[run % move.tile_count];
      const uint32_t layer = run / move.tile_count;
      char* base = move.kv_apart != 0 ? pointers[layer * move.kv_factor + kv]
                                      : pointers[layer] + kv * move.kv_stride;
      page[i] = base + tile.offset + head * move.head_stride;
      const uint64_t row =
          (uint64_t{head} * move.layer_total + move.first_layer + layer) * move.kv_factor + kv;
      block[i] = reinterpret_cast<const char*>(tile.block) + row * plane +
                 uint64_t{tile.token} * move.row_bytes;
      tokens[i] = first + i < runs ? tile.tokens : 0;
      most = max(most, tokens[i]);
    }
    for (uint32_t v = threadIdx.x; v < most * vectors; v += blockDim.x) {
      const uint32_t token = v / vectors;
      V value[kRunsAtOnce];
#pragma unroll
      for (int i = 0; i < kRunsAtOnce; ++i) {
        if (token < tokens[i]) value[i] = reinterpret_cast<const V*>(block[i])[v];
      }
#pragma unroll
      for (int i = 0; i < kRunsAtOnce; ++i) {
        if (token >= tokens[i]) continue;
        reinterpret_cast<V*>(page[i] + token * move.token_stride)[v % vectors] = value[i];
      }
    }
  }
}

}  // namespace

#define KVFS_MOVE_KERNELS(name, V)                                       \
  extern "C" __global__ void __launch_bounds__(256)                      \
      kvfs_scatter_##name(const __grid_constant__ CudaMove move) {       \
    move_runs<V, true>(move);                                            \
  }                                                                      \
  extern "C" __global__ void __launch_bounds__(256)                      \
      kvfs_gather_##name(const __grid_constant__ CudaMove move) {        \
    move_runs<V, false>(move);                                           \
  }                                                                      \
  extern "C" __global__ void __launch_bounds__(256)                      \
      kvfs_scatter_local_##name(const __grid_constant__ CudaMove move) { \
    scatter_local<V>(move);                                              \
  }
KVFS_MOVE_KERNELS(16, uint4)
KVFS_MOVE_KERNELS(4, uint32_t)
KVFS_MOVE_KERNELS(1, uint8_t)

}  // namespace kvfs::gpu
