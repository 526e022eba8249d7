// Quantized heads (lib/format/quantized_block.h) to planes and back, both in device memory.
#pragma once

#include "gpu/cuda_kernels.h"
#include "gpu/quantize.h"

namespace kvfs::gpu {
namespace {

constexpr uint32_t kQuantizeWarps = 8;  // of a block
constexpr uint32_t kQuantizeLanes = 32;

// What a lane takes at a time: kQuantizedVector numbers of the engine's.
template <typename Engine>
struct alignas(16) EngineVector {
  typename Engine::Bits values[kQuantizedVector];
};

__device__ __forceinline__ uint32_t largest_of_warp(uint32_t value) {
  return __reduce_max_sync(0xffffffffU, value);
}

// By one warp: a plane is read twice, the second time out of the cache.
template <typename Engine, typename Stored>
__device__ void quantize_plane(const QuantizedLayout& layout, const void* values, uint8_t* head,
                               uint32_t plane, uint32_t lane) {
  const auto* in = static_cast<const EngineVector<Engine>*>(values);
  auto* out =
      reinterpret_cast<uint2*>(head + layout.numbers_at + uint64_t{plane} * layout.plane_values);
  const uint32_t vectors = layout.plane_values / kQuantizedVector;
  uint32_t largest = 0;
  for (uint32_t v = lane; v < vectors; v += kQuantizeLanes) {
    const EngineVector<Engine> vector = in[v];
#pragma unroll
    for (uint32_t i = 0; i < kQuantizedVector; ++i) {
      largest = max(largest, finite_magnitude<Engine>(vector.values[i]));
    }
  }
  const PlaneScale by =
      plane_scale<Engine, Stored>(static_cast<typename Engine::Bits>(largest_of_warp(largest)));
  uint32_t distance = 0;
  for (uint32_t v = lane; v < vectors; v += kQuantizeLanes) {
    const EngineVector<Engine> vector = in[v];
    uint2 codes = make_uint2(0, 0);
#pragma unroll
    for (uint32_t i = 0; i < kQuantizedVector; ++i) {
      const Quantum quantum = Stored::store(Engine::to_float(vector.values[i]) * by.inverse);
      (i < 4 ? codes.x : codes.y) |= quantum.code << (8 * (i % 4));
      distance = max(distance, quantum.distance);
    }
    out[v] = codes;
  }
  distance = largest_of_warp(distance);
  if (lane != 0) return;
  reinterpret_cast<float*>(head)[plane] = by.scale;
  reinterpret_cast<float*>(head + layout.errors_at)[plane] = float_of(distance) * by.scale;
}

// The stored planes' `index`th.
template <typename Engine, typename Stored>
__device__ void dequantize_plane(const QuantizedLayout& layout, const StoredPlanes& stored,
                                 const uint8_t* head, uint32_t index, void* values, uint32_t lane) {
  const auto* in =
      reinterpret_cast<const uint2*>(head + stored.at + uint64_t{index} * layout.plane_values);
  auto* out = static_cast<EngineVector<Engine>*>(values);
  const float scale = reinterpret_cast<const float*>(head)[stored.first + index];
  for (uint32_t v = lane; v < layout.plane_values / kQuantizedVector; v += kQuantizeLanes) {
    const uint2 codes = in[v];
    EngineVector<Engine> vector;
#pragma unroll
    for (uint32_t i = 0; i < kQuantizedVector; ++i) {
      const uint32_t code = (i < 4 ? codes.x : codes.y) >> (8 * (i % 4)) & 0xffU;
      vector.values[i] = Engine::from_float(Stored::load(code) * scale);
    }
    out[v] = vector;
  }
}

// The same block has the same bytes, those that mean nothing included; by the last plane's warp.
__device__ void clear_gaps(const QuantizedLayout& layout, uint8_t* head, uint32_t lane) {
  for (uint64_t i = 2 * layout.errors_at + lane; i < layout.numbers_at; i += kQuantizeLanes) {
    head[i] = 0;
  }
  const uint64_t end = layout.numbers_at + uint64_t{layout.planes} * layout.plane_values;
  for (uint64_t i = end + lane; i < layout.head_bytes; i += kQuantizeLanes) head[i] = 0;
}

template <bool kStore, typename Engine, typename Stored>
__device__ void convert_planes(const CudaQuantize& work) {
  const QuantizedLayout& layout = work.layout;
  const uint32_t lane = threadIdx.x % kQuantizeLanes;
  const uint32_t planes = work.heads * work.stored.count;
  for (uint32_t i = blockIdx.x * kQuantizeWarps + threadIdx.x / kQuantizeLanes; i < planes;
       i += gridDim.x * kQuantizeWarps) {
    const uint32_t plane = i % work.stored.count;
    auto* head =
        reinterpret_cast<uint8_t*>(work.quantized) + i / work.stored.count * work.stored.head_bytes;
    auto* values =
        reinterpret_cast<typename Engine::Bits*>(work.planes) + uint64_t{i} * layout.plane_values;
    if (kStore) {
      quantize_plane<Engine, Stored>(layout, values, head, plane, lane);
      if (plane + 1 == layout.planes) clear_gaps(layout, head, lane);
    } else {
      dequantize_plane<Engine, Stored>(layout, work.stored, head, plane, values, lane);
    }
  }
}

template <bool kStore, typename Stored>
__device__ __forceinline__ void convert_to(const CudaQuantize& work) {
  switch (work.engine) {
    case CudaNumber::kBf16:
      return convert_planes<kStore, Bf16, Stored>(work);
    case CudaNumber::kF16:
      return convert_planes<kStore, F16, Stored>(work);
    case CudaNumber::kF32:
      return convert_planes<kStore, F32, Stored>(work);
  }
}

}  // namespace

#define KVFS_QUANTIZE_KERNELS(name, Stored)                         \
  extern "C" __global__ void __launch_bounds__(kQuantizeWarps * 32) \
      kvfs_to_##name(const __grid_constant__ CudaQuantize work) {   \
    convert_to<true, Stored>(work);                                 \
  }                                                                 \
  extern "C" __global__ void __launch_bounds__(kQuantizeWarps * 32) \
      kvfs_from_##name(const __grid_constant__ CudaQuantize work) { \
    convert_to<false, Stored>(work);                                \
  }
KVFS_QUANTIZE_KERNELS(fp8, Fp8)
KVFS_QUANTIZE_KERNELS(int8, Int8)

}  // namespace kvfs::gpu
