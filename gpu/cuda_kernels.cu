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

}  // namespace

#define KVFS_MOVE_KERNELS(name, V)                                 \
  extern "C" __global__ void __launch_bounds__(256)                \
      kvfs_scatter_##name(const __grid_constant__ CudaMove move) { \
    move_runs<V, true>(move);                                      \
  }                                                                \
  extern "C" __global__ void __launch_bounds__(256)                \
      kvfs_gather_##name(const __grid_constant__ CudaMove move) {  \
    move_runs<V, false>(move);                                     \
  }
KVFS_MOVE_KERNELS(16, uint4)
KVFS_MOVE_KERNELS(4, uint32_t)
KVFS_MOVE_KERNELS(1, uint8_t)

}  // namespace kvfs::gpu
