#include "gpu/cuda_memory.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include "gpu/pages.h"

namespace kvfs::gpu {
namespace {

// Bytes [begin, end) from a layer's base.
struct Reach {
  std::int64_t begin = 0, end = 0;
  void step(std::int64_t stride, std::uint32_t count) {
    const std::int64_t last = stride * (std::int64_t{count} - 1);
    (last < 0 ? begin : end) += last;
  }
};

Reach reach_of(const BlockShape& shape, const Pages& pages, std::span<const BlockAt> blocks) {
  Reach all{.begin = INT64_MAX, .end = INT64_MIN};
  for (const BlockAt& block : blocks) {
    for_each_segment(shape, pages, block.block, [&](const Segment& segment) {
      Reach reach{.begin = segment.offset, .end = segment.offset};
      reach.step(pages.token_stride, segment.tokens);
      all.begin = std::min(all.begin, reach.begin);
      all.end = std::max(all.end, reach.end);
    });
  }
  all.end += std::int64_t{shape.head_dim} * shape.element_bytes;
  all.step(pages.head_stride, heads_wanted(shape, pages));
  if (!split_kv(shape, pages)) all.step(pages.kv_stride, shape.kv_factor);
  return all;
}

struct Allocation {
  CUdeviceptr begin = 0;
  std::size_t bytes = 0;
  [[nodiscard]] bool contains(CUdeviceptr from, CUdeviceptr to) const {
    return from >= begin && to <= begin + bytes;
  }
};

// The allocation that an address lies in; of no bytes where it is not the device's memory.
Allocation allocation_at(const CudaDriver& driver, int ordinal, CUdeviceptr address) {
  Allocation found;
  unsigned int type = 0;
  int device = -1;
  std::array<CUpointer_attribute, 4> attributes{
      CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
      CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, CU_POINTER_ATTRIBUTE_RANGE_SIZE};
  std::array<void*, 4> values{&type, &device, &found.begin, &found.bytes};
  const CUresult result = driver.pointer_attributes(static_cast<unsigned int>(attributes.size()),
                                                    attributes.data(), values.data(), address);
  if (result != CUDA_SUCCESS || type != CU_MEMORYTYPE_DEVICE || device != ordinal) return {};
  return found;
}

// `known`: the allocation of `begin`, where the caller has it, and afterwards in any case. Memory
// that was mapped piece by piece is one tensor and several allocations.
bool reaches(const CudaDriver& driver, int ordinal, CUdeviceptr begin, CUdeviceptr end,
             Allocation& known) {
  if (known.contains(begin, end)) return true;
  known = allocation_at(driver, ordinal, begin);
  return known.contains(begin, end) ||
         (known.bytes != 0 && allocation_at(driver, ordinal, end - 1).bytes != 0);
}

}  // namespace

Status check_memory(const CudaDriver& driver, int ordinal, const BlockShape& shape,
                    const Pages& pages, std::span<const BlockAt> blocks) {
  const Reach reach = reach_of(shape, pages, blocks);
  Allocation known;  // layers are mostly neighbours
  for (std::size_t i = 0; i < pages.layers.size(); ++i) {
    const auto base = reinterpret_cast<CUdeviceptr>(pages.layers[i]);
    const CUdeviceptr begin = base + static_cast<CUdeviceptr>(reach.begin);
    const CUdeviceptr end = base + static_cast<CUdeviceptr>(reach.end);
    if (reaches(driver, ordinal, begin, end, known)) continue;
    return fail(Code::kInvalid,
                "layers[" + std::to_string(i) + "]: bytes [" + std::to_string(reach.begin) + ", " +
                    std::to_string(reach.end) +
                    ") from there are not all memory of cuda:" + std::to_string(ordinal) +
                    ": give that device's pointers, and pages that they have");
  }
  return {};
}

Result<std::vector<CUdeviceptr>> allocations_of(const CudaDriver& driver, int ordinal,
                                                std::span<std::byte* const> blocks,
                                                std::uint64_t bytes) {
  std::vector<CUdeviceptr> begins;
  begins.reserve(blocks.size());
  Allocation known;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const auto begin = reinterpret_cast<CUdeviceptr>(blocks[i]);
    if (!reaches(driver, ordinal, begin, begin + bytes, known)) {
      return fail(Code::kInvalid, "blocks[" + std::to_string(i) + "]: " + std::to_string(bytes) +
                                      " bytes from there are not all memory of cuda:" +
                                      std::to_string(ordinal) + ": give that device's pointers");
    }
    begins.push_back(known.begin);
  }
  return begins;
}

}  // namespace kvfs::gpu
