#include "tools/benchmarks/gpu_cache.h"

#include <algorithm>
#include <numeric>
#include <random>

namespace kvfs::bench {

GpuCache::GpuCache(const Gpu& gpu, const GpuModel& model, std::uint32_t blocks)
    : model_(model),
      blocks_(blocks),
      page_count_(blocks * model.block_tokens / model.page_tokens),
      page_stride_(model.row_bytes() * model.rank_heads * model.page_tokens),
      memory_(gpu, page_stride_ * page_count_ * model.kv_factor * model.layers),
      table_(page_count_) {
  for (std::uint32_t layer = 0; layer < model.layers; ++layer) {
    layers_.push_back(reinterpret_cast<void*>(
        memory_.at() + std::uint64_t{layer} * model.kv_factor * page_count_ * page_stride_));
  }
  std::iota(table_.begin(), table_.end(), 0);
  std::ranges::shuffle(table_, std::mt19937_64(1));
}

kvfs_pages GpuCache::pages() const {
  kvfs_pages pages{};
  pages.size = sizeof(kvfs_pages);
  pages.layer_count = model_.layers;
  pages.layers = layers_.data();
  pages.kv_stride = static_cast<std::int64_t>(page_count_ * page_stride_);
  pages.page_stride = static_cast<std::int64_t>(page_stride_);
  pages.head_stride = static_cast<std::int64_t>(model_.row_bytes());
  pages.token_stride = pages.head_stride * model_.rank_heads;
  pages.head_count = model_.rank_heads;
  pages.page_tokens = model_.page_tokens;
  pages.page_count = page_count_;
  pages.page_table = table_.data();
  return pages;
}

gpu::Pages GpuCache::device_pages() const {
  const kvfs_pages from = pages();
  gpu::Pages made;
  for (void* layer : layers_) made.layers.push_back(static_cast<std::byte*>(layer));
  made.kv_stride = from.kv_stride;
  made.page_stride = from.page_stride;
  made.token_stride = from.token_stride;
  made.head_stride = from.head_stride;
  made.head_count = from.head_count;
  made.page_tokens = from.page_tokens;
  made.page_table = table_;
  return made;
}

gpu::Pages GpuCache::host_pages(std::byte* copy) const {
  gpu::Pages made = device_pages();
  for (std::byte*& layer : made.layers) {
    layer = copy + (reinterpret_cast<CUdeviceptr>(layer) - memory_.at());
  }
  return made;
}

std::vector<CUdeviceptr> GpuCache::pieces() const {
  std::vector<CUdeviceptr> made;
  made.reserve(std::size_t{page_count_} * model_.layers * model_.kv_factor);
  for (const std::int32_t page : table_) {
    for (std::uint64_t plane = 0; plane < std::uint64_t{model_.layers} * model_.kv_factor;
         ++plane) {
      made.push_back(memory_.at() +
                     (plane * page_count_ + static_cast<std::uint64_t>(page)) * page_stride_);
    }
  }
  return made;
}

}  // namespace kvfs::bench
