#include "tools/benchmarks/gpu_data.h"

#include <cstring>
#include <random>
#include <utility>

#include "tools/benchmarks/data.h"
#include "tools/benchmarks/handles.h"

namespace kvfs::bench {
namespace {

constexpr std::uint32_t kVocabulary = 128256;
constexpr int kOtherBytes = 0xa5;

}  // namespace

std::vector<Token> prompt_of_blocks(std::uint64_t number, std::uint32_t blocks,
                                    std::uint32_t block_tokens) {
  std::mt19937_64 random(number ^ (std::uint64_t{blocks} << 32));
  std::vector<Token> tokens(std::size_t{blocks} * block_tokens);
  for (Token& token : tokens) token = static_cast<Token>(random() % kVocabulary);
  return tokens;
}

Status fill(const Gpu& gpu, const GpuModel& model, const GpuCache& cache, const RealKv* kv,
            std::byte* pinned) {
  Status status;
  if (kv == nullptr) {
    fill_with_numbers({pinned, cache.size()});
  } else {
    status = fill_pages(*kv, model.rank_shape(), cache.host_pages(pinned), cache.blocks());
  }
  if (!status) return status;
  status = gpu.driver().check(
      gpu.driver().copy_to_device(cache.at(), pinned, cache.size(), gpu.stream(0)),
      "filling a cache");
  return status ? gpu.wait(0) : status;
}

Status loads_same_numbers(const Gpu& gpu, const GpuModel& model, const GpuCache& loaded,
                          const GpuCache& stored, const std::function<Result<double>()>& load) {
  const PinnedBuffer first(gpu, loaded.size());
  const PinnedBuffer second(gpu, stored.size());
  std::memset(first.data(), kOtherBytes, loaded.size());
  Status status = gpu.driver().check(
      gpu.driver().copy_to_device(loaded.at(), first.data(), loaded.size(), gpu.stream(0)),
      "clearing a cache");
  if (status) status = gpu.wait(0);
  if (!status) return status;
  if (Result<double> seconds = load(); !seconds) return pass(std::move(seconds));
  for (const auto& [to, from] : {std::pair{&first, &loaded}, std::pair{&second, &stored}}) {
    if (!status) return status;
    status = gpu.driver().check(
        gpu.driver().copy_to_host(to->data(), from->at(), from->size(), gpu.stream(0)),
        "reading a cache");
  }
  if (status) status = gpu.wait(0);
  if (!status) return status;
  if (model.quantized()) {
    status = store_and_load(model.rank_shape(), stored.host_pages(second.data()), stored.blocks());
    if (!status) return status;
  }
  if (loaded.size() != stored.size() ||
      std::memcmp(first.data(), second.data(), loaded.size()) != 0) {
    return fail(Code::kCorrupt, "what was loaded is not what was stored");
  }
  return {};
}

Result<std::vector<Token>> store_from_gpu(kvfs_client* client, const kvfs_pages& pages,
                                          std::uint32_t blocks, const GpuModel& model,
                                          std::uint64_t number) {
  std::vector<Token> prompt = prompt_of_blocks(number, blocks, model.block_tokens);
  Result<ReservationPtr> reservation = reserve(client, prompt);
  if (!reservation) return pass(std::move(reservation));
  Status status = check(kvfs_store(reservation->get(), 0, 0, blocks, &pages, nullptr, nullptr));
  if (status) status = check(kvfs_commit(reservation->get(), 0, nullptr));
  if (!status) return pass(std::move(status));
  return prompt;
}

}  // namespace kvfs::bench
