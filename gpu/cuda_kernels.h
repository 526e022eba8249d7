// What host and kernels of the CUDA device agree on.
#pragma once

#include <stdint.h>

#include "gpu/stored_planes.h"
#include "lib/format/packed_block.h"
#include "lib/format/quantized_block.h"

namespace kvfs::gpu {

// Tokens of one block in one page.
struct CudaTile {
  uint64_t block;  // device address of the block's first moved head, token 0
  int64_t offset;  // bytes from a layer's base to the tile's first token, same head
  uint32_t token;  // first token, counted in the block
  uint32_t tokens;
};

constexpr uint32_t kCudaTableBytes = 4024;

// One launch: all that a kernel needs is in its argument (4 KiB at most), so that no table has to
// be copied before it. A run is one tile's tokens of one head, layer and kv.
struct CudaMove {
  int64_t kv_stride;  // used when K and V of a layer share a pointer
  int64_t token_stride;
  int64_t head_stride;
  uint32_t tile_count;
  uint32_t heads;        // moved
  uint32_t first_layer;  // of the launch, counted from the first that the block has here
  uint32_t layers;       // of the launch
  uint32_t layer_total;  // that the block has here
  uint32_t kv_factor;
  uint32_t block_tokens;
  uint32_t row_bytes;  // one token of one head
  uint32_t kv_apart;   // 1: a pointer for each kv
  uint32_t tiles_at;   // bytes into `tables`
  // Pointers of the launch's layers (a layer each, or a layer and kv each), then its CudaTiles.
  alignas(8) unsigned char tables[kCudaTableBytes];
};
static_assert(sizeof(CudaMove) <= 4096, "what every driver takes as a kernel's argument");

// Heads in device memory, packed, and planes of them as [tokens][head_dim], side by side. All
// planes of each when packing.
struct CudaPack {
  PackedLayout layout;
  StoredPlanes stored;
  uint64_t packed;
  uint64_t planes;
  uint32_t heads;
};

// The same for quantized heads; planes are of the engine's numbers.
enum class CudaNumber : uint32_t { kBf16, kF16, kF32 };
struct CudaQuantize {
  QuantizedLayout layout;
  StoredPlanes stored;
  uint64_t quantized;
  uint64_t planes;
  uint32_t heads;
  CudaNumber engine;
};

}  // namespace kvfs::gpu
