// Bytes in device memory: filled, stored, compared.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "lib/format/key.h"
#include "tools/benchmarks/gpu_cache.h"
#include "tools/benchmarks/real_kv.h"

namespace kvfs::bench {

// A prompt of so many blocks, different for every number.
std::vector<Token> prompt_of_blocks(std::uint64_t number, std::uint32_t blocks,
                                    std::uint32_t block_tokens);

// Random numbers, or real KV where there is some, by way of as much pinned memory.
Status fill(const Gpu& gpu, const GpuModel& model, const GpuCache& cache, const RealKv* kv,
            std::byte* pinned);
// Has `load` fill `loaded`, in which other bytes are before it, so that no earlier load stands in
// for it. kCorrupt where what it brought is not what was stored, bit for bit; of quantized blocks,
// where it is not what the CPU makes of that.
Status loads_same_numbers(const Gpu& gpu, const GpuModel& model, const GpuCache& loaded,
                          const GpuCache& stored, const std::function<Result<double>()>& load);

// Stores and commits `blocks` blocks out of a cache; returns their prompt. What other ranks would
// have written is zeros.
Result<std::vector<Token>> store_from_gpu(kvfs_client* client, const kvfs_pages& pages,
                                          std::uint32_t blocks, const GpuModel& model,
                                          std::uint64_t number = 0);

}  // namespace kvfs::bench
