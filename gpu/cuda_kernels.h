// What host and kernels of the CUDA device agree on.
#pragma once

#include <stdint.h>

namespace kvfs::gpu {

// Tokens of one block in one page.
struct CudaTile {
  uint64_t
      staged;  // bytes from the staging buffer's begin to head `first_head`, token 0 of the block
  int64_t offset;  // bytes from a layer's base to the tile's first token, head `first_head`
  uint32_t token;  // first token, counted in the block
  uint32_t tokens;
};

// One launch. A run is one tile's tokens of one head, layer and kv; runs are numbered with kv
// fastest, then layer, head, tile.
struct CudaMove {
  uint64_t staging;   // device address
  uint64_t layers;    // device address of pointers: a layer each, or a layer and kv each
  uint64_t tiles;     // device address of CudaTile
  int64_t kv_stride;  // used when K and V of a layer share a pointer
  int64_t token_stride;
  int64_t head_stride;
  uint32_t tile_count;
  uint32_t heads;  // moved
  uint32_t layer_count;
  uint32_t kv_factor;
  uint32_t block_tokens;
  uint32_t row_bytes;  // one token of one head
  uint32_t kv_apart;   // 1: layers has a pointer for each kv
  uint32_t reserved;
};

}  // namespace kvfs::gpu
