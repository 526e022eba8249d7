// Geometries that tests of the formats share.
#pragma once

#include "lib/format/geometry.h"

namespace kvfs::test {

inline Geometry small_geometry() {
  return {.model = "tiny",
          .dtype = DType::kF32,
          .block_tokens = 4,
          .groups = {{.layers = 2, .kv_heads = 3, .head_dim = 8}}};
}

inline Geometry llama_geometry() {
  return {.model = "meta-llama/Llama-3.1-8B",
          .dtype = DType::kBF16,
          .block_tokens = 16,
          .groups = {{.layers = 32, .kv_heads = 8, .head_dim = 128}}};
}

// Full attention beside a sliding window of 10 tokens (3 blocks of 4).
inline Geometry hybrid_geometry() {
  return {.model = "hybrid",
          .dtype = DType::kF16,
          .block_tokens = 4,
          .groups = {{.layers = 2, .kv_heads = 1, .head_dim = 8},
                     {.layers = 5, .kv_heads = 1, .head_dim = 8, .window = 10}}};
}

}  // namespace kvfs::test
