// Packed heads (lib/format/packed_block.h) to planes and back, both in device memory.
#pragma once

#include "gpu/cuda_kernels.h"

namespace kvfs::gpu {
namespace {

constexpr uint32_t kWarp = 32;
constexpr uint32_t kAllLanes = 0xffffffffU;
constexpr uint32_t kPackWarps = 8;  // of a block

// The eight channels that a lane works on at a time, and where they are in their band.
struct Octet {
  uint32_t index;  // in the order of tokens, then channels
  uint32_t token, octet;
  bool there;
};
__device__ __forceinline__ Octet octet_at(uint32_t index, uint32_t third) {
  return {index, index / third, index % third, index < kBandTokens * third};
}

__device__ __forceinline__ uint32_t byte_of(uint2 bytes, uint32_t i) {
  return (i < 4 ? bytes.x >> (8 * i) : bytes.y >> (8 * (i - 4))) & 0xffU;
}
__device__ __forceinline__ uint32_t word_of(uint4 words, uint32_t i) {
  const uint32_t pair = i < 2 ? words.x : i < 4 ? words.y : i < 6 ? words.z : words.w;
  return i % 2 == 0 ? pair & 0xffffU : pair >> 16;
}
// Sum over the lanes below this one; `total` over all.
__device__ __forceinline__ uint32_t sum_below(uint32_t count, uint32_t lane, uint32_t& total) {
  uint32_t sum = count;
  for (uint32_t step = 1; step < kWarp; step *= 2) {
    const uint32_t other = __shfl_up_sync(kAllLanes, sum, step);
    if (lane >= step) sum += other;
  }
  total = __shfl_sync(kAllLanes, sum, kWarp - 1);
  return sum - count;
}

// `escapes`: of the head's list, those up to `end` are there.
__device__ __forceinline__ uint4 unpack_octet(const PackedLayout& layout, const uint8_t* band,
                                              const uint8_t* escapes, uint32_t end, Octet at,
                                              const uint32_t distance[3], uint32_t escape) {
  const uint2 base = reinterpret_cast<const uint2*>(band)[at.octet];
  const uint2 low = reinterpret_cast<const uint2*>(band + layout.head_dim)[at.index];
  uint32_t pairs[4];
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) {
    const uint32_t d =
        (distance[0] >> i & 1U) | (distance[1] >> i & 1U) << 1 | (distance[2] >> i & 1U) << 2;
    uint32_t exponent = (byte_of(base, i) - d) & 0xffU;
    if (d == kEscapeCode) {
      exponent = escape < end ? escapes[escape] : 0;
      ++escape;
    }
    const uint32_t turned = exponent << 8 | byte_of(low, i);
    const uint32_t value = (turned >> 1 | turned << 15) & 0xffffU;
    if (i % 2 == 0) {
      pairs[i / 2] = value;
    } else {
      pairs[i / 2] |= value << 16;
    }
  }
  return make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
}

// The stored planes' `index`th, by one warp.
__device__ void unpack_plane(const PackedLayout& layout, const StoredPlanes& stored,
                             const uint8_t* head, uint32_t index, uint4* values, uint32_t lane) {
  const auto* ends = reinterpret_cast<const uint32_t*>(head);
  const uint32_t plane = stored.first + index;
  // What is not there is never looked at: of a head that is right its planes' escapes are.
  const uint32_t end = min(ends[plane], stored.end_escape);
  uint32_t at = max(plane == 0 ? 0 : min(ends[plane - 1], layout.escape_room), stored.first_escape);
  const uint8_t* escapes = head + stored.escapes_at - stored.first_escape;
  const uint8_t* band = head + stored.at + uint64_t{index} * layout.bands * layout.band_bytes;
  const uint32_t third = layout.head_dim / 8;
  const uint32_t octets = kBandTokens * third;
  for (uint32_t b = 0; b < layout.bands; ++b, band += layout.band_bytes, values += octets) {
    const uint8_t* distances = band + (1 + kBandTokens) * layout.head_dim;
    for (uint32_t first = 0; first < octets; first += kWarp) {
      const Octet here = octet_at(first + lane, third);
      uint32_t distance[3] = {0, 0, 0};
      if (here.there) {
        const uint8_t* bits = distances + here.token * 3 * third + here.octet;
        for (uint32_t bit = 0; bit < 3; ++bit) distance[bit] = bits[bit * third];
      }
      uint32_t total = 0;
      const uint32_t before =
          sum_below(__popc(distance[0] & distance[1] & distance[2]), lane, total);
      if (here.there) {
        values[here.index] = unpack_octet(layout, band, escapes, end, here, distance, at + before);
      }
      at += total;
    }
  }
}

// Bases and low bytes of a band; by one warp.
__device__ void pack_bases(const PackedLayout& layout, const uint4* values, uint8_t* band,
                           uint32_t lane) {
  const uint32_t third = layout.head_dim / 8;
  for (uint32_t octet = lane; octet < third; octet += kWarp) {
    uint2 base = make_uint2(0, 0);
    for (uint32_t token = 0; token < kBandTokens; ++token) {
      const uint4 words = values[token * third + octet];
      uint2 exponents = make_uint2(0, 0);
      uint2 low = make_uint2(0, 0);
#pragma unroll
      for (uint32_t i = 0; i < 8; ++i) {
        const uint32_t value = word_of(words, i);
        const uint32_t exponent = value >> 7 & 0xffU;
        const uint32_t rest = (value << 1 | value >> 15) & 0xffU;
        if (i < 4) {
          exponents.x |= exponent << (8 * i);
          low.x |= rest << (8 * i);
        } else {
          exponents.y |= exponent << (8 * (i - 4));
          low.y |= rest << (8 * (i - 4));
        }
      }
      base.x = __vmaxu4(base.x, exponents.x);
      base.y = __vmaxu4(base.y, exponents.y);
      reinterpret_cast<uint2*>(band + layout.head_dim)[token * third + octet] = low;
    }
    reinterpret_cast<uint2*>(band)[octet] = base;
  }
}

// Distances of a band; returns how many escapes this lane's channels have. By one warp.
__device__ uint32_t pack_distances(const PackedLayout& layout, const uint4* values, uint8_t* band,
                                   uint32_t lane) {
  const uint32_t third = layout.head_dim / 8;
  uint8_t* distances = band + (1 + kBandTokens) * layout.head_dim;
  uint32_t escapes = 0;
  for (uint32_t index = lane; index < kBandTokens * third; index += kWarp) {
    const Octet here = octet_at(index, third);
    const uint2 base = reinterpret_cast<const uint2*>(band)[here.octet];
    const uint4 words = values[index];
    uint32_t bits[3] = {0, 0, 0};
#pragma unroll
    for (uint32_t i = 0; i < 8; ++i) {
      const uint32_t distance =
          min(byte_of(base, i) - (word_of(words, i) >> 7 & 0xffU), kEscapeCode);
      for (uint32_t bit = 0; bit < 3; ++bit) bits[bit] |= (distance >> bit & 1U) << i;
    }
    uint8_t* at = distances + here.token * 3 * third + here.octet;
    for (uint32_t bit = 0; bit < 3; ++bit) at[bit * third] = static_cast<uint8_t>(bits[bit]);
    escapes += __popc(bits[0] & bits[1] & bits[2]);
  }
  return escapes;
}

// Exponents of a plane's escapes, from place `at` of the head's list on. Each lane reads the
// distances that it wrote.
__device__ void pack_escapes(const PackedLayout& layout, const uint4* values, const uint8_t* band,
                             uint8_t* escapes, uint32_t at, uint32_t lane) {
  const uint32_t third = layout.head_dim / 8;
  const uint32_t octets = kBandTokens * third;
  for (uint32_t b = 0; b < layout.bands; ++b, band += layout.band_bytes, values += octets) {
    const uint8_t* distances = band + (1 + kBandTokens) * layout.head_dim;
    for (uint32_t first = 0; first < octets; first += kWarp) {
      const Octet here = octet_at(first + lane, third);
      uint32_t which = 0;
      if (here.there) {
        const uint8_t* bits = distances + here.token * 3 * third + here.octet;
        which = bits[0] & bits[third] & bits[2 * third];
      }
      uint32_t total = 0;
      uint32_t place = at + sum_below(__popc(which), lane, total);
      at += total;
      if (which == 0) continue;
      const uint4 words = values[here.index];
#pragma unroll
      for (uint32_t i = 0; i < 8; ++i) {
        if ((which >> i & 1U) == 0) continue;
        if (place < layout.escape_room) {
          escapes[place] = static_cast<uint8_t>(word_of(words, i) >> 7);
        }
        ++place;
      }
    }
  }
}

// By a block of kPackWarps warps, a plane each at a time: a plane's escapes come behind those of
// the planes before it.
__device__ void pack_head(const PackedLayout& layout, const uint4* values, uint8_t* head) {
  __shared__ uint32_t counts[kPackWarps];
  const uint32_t warp = threadIdx.x / kWarp;
  const uint32_t lane = threadIdx.x % kWarp;
  const uint32_t plane_octets = layout.tokens * (layout.head_dim / 8);
  auto* ends = reinterpret_cast<uint32_t*>(head);
  uint8_t* escapes = head + layout.escapes_at;
  uint32_t before = 0;
  for (uint32_t first = 0; first < layout.planes; first += kPackWarps) {
    const uint32_t plane = first + warp;
    const bool there = plane < layout.planes;
    const uint4* plane_values = values + uint64_t{plane} * plane_octets;
    uint8_t* bands = head + layout.bands_at + uint64_t{plane} * layout.bands * layout.band_bytes;
    uint32_t mine = 0;
    for (uint32_t b = 0; there && b < layout.bands; ++b) {
      const uint4* band_values = plane_values + b * kBandTokens * (layout.head_dim / 8);
      uint8_t* band = bands + b * layout.band_bytes;
      pack_bases(layout, band_values, band, lane);
      __syncwarp();
      mine += pack_distances(layout, band_values, band, lane);
    }
    uint32_t count = 0;
    sum_below(mine, lane, count);
    if (lane == 0) counts[warp] = count;
    __syncthreads();
    uint32_t start = before;
    for (uint32_t w = 0; w < kPackWarps; ++w) {
      if (w < warp) start += counts[w];
      before += counts[w];
    }
    if (there) {
      if (lane == 0) ends[plane] = start + count;
      pack_escapes(layout, plane_values, bands, escapes, start, lane);
    }
    __syncthreads();
  }
  // The same block has the same bytes, those that mean nothing included.
  for (uint64_t i = layout.planes * sizeof(uint32_t) + threadIdx.x; i < layout.bands_at;
       i += blockDim.x) {
    head[i] = 0;
  }
  for (uint64_t i = layout.escapes_at + min(before, layout.escape_room) + threadIdx.x;
       i < layout.head_bytes; i += blockDim.x) {
    head[i] = 0;
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kPackWarps* kWarp)
    kvfs_unpack(const __grid_constant__ CudaPack pack) {
  const PackedLayout& layout = pack.layout;
  const uint32_t planes = pack.heads * pack.stored.count;
  const uint64_t plane_octets = uint64_t{layout.tokens} * (layout.head_dim / 8);
  for (uint32_t i = blockIdx.x * kPackWarps + threadIdx.x / kWarp; i < planes;
       i += gridDim.x * kPackWarps) {
    const uint32_t head = i / pack.stored.count;
    unpack_plane(layout, pack.stored,
                 reinterpret_cast<const uint8_t*>(pack.packed) + head * pack.stored.head_bytes,
                 i % pack.stored.count, reinterpret_cast<uint4*>(pack.planes) + i * plane_octets,
                 threadIdx.x % kWarp);
  }
}

extern "C" __global__ void __launch_bounds__(kPackWarps* kWarp)
    kvfs_pack(const __grid_constant__ CudaPack pack) {
  const PackedLayout& layout = pack.layout;
  const uint64_t head_octets = uint64_t{layout.planes} * layout.tokens * (layout.head_dim / 8);
  for (uint32_t head = blockIdx.x; head < pack.heads; head += gridDim.x) {
    pack_head(layout, reinterpret_cast<const uint4*>(pack.planes) + head * head_octets,
              reinterpret_cast<uint8_t*>(pack.packed) + head * layout.head_bytes);
  }
}

}  // namespace kvfs::gpu
