// nvme_promote, nvme_writeback: between the NVMe tier and DRAM, against fio on the same directory.
#include <fmt/format.h>

#include <chrono>
#include <thread>
#include <vector>

#include "tools/benchmarks/benches.h"
#include "tools/benchmarks/data.h"
#include "tools/benchmarks/fio.h"
#include "tools/benchmarks/handles.h"
#include "tools/benchmarks/timing.h"

namespace kvfs::bench {
namespace {

constexpr double kLeastRatio = 0.95;
constexpr std::uint32_t kBlocks = 512;  // 1 GiB: what begins and ends a transfer weighs little
constexpr std::uint64_t kBytes = kBlocks * kLlamaBlockBytes;
constexpr double kPatience = 60;  // seconds

// Prefetches and looks until the index says that all of it is in DRAM; seconds.
Result<double> promote(kvfs_client* client, const std::vector<Token>& tokens, const kvfs_key& key) {
  const kvfs_prompt prompt = prompt_of(tokens);
  const Stopwatch watch;
  if (Status status = check(kvfs_prefetch(client, &key)); !status) return pass(std::move(status));
  kvfs_match_result match{};
  do {
    if (Status status = check(kvfs_match(client, &prompt, &match)); !status)
      return pass(std::move(status));
    if (match.dram_blocks == kBlocks) return watch.seconds();
    std::this_thread::sleep_for(std::chrono::microseconds(300));
  } while (match.blocks == kBlocks && watch.seconds() < kPatience);
  return fail(Code::kTimeout,
              fmt::format("{} of {} blocks came into DRAM", match.dram_blocks, match.blocks));
}

}  // namespace

Status bench_nvme_promote(const Target& target, const Emit& emit) {
  auto name_space = TempNamespace::create(target.mount, "bench-promote", llama_geometry());
  if (!name_space) return pass(std::move(name_space));
  kvfs_client* client = (*name_space)->client();
  const HugeBuffer block(kLlamaBlockBytes);
  const std::vector<Token> tokens = make_prompt(0, kBlocks);
  Result<kvfs_key> key = store_copies(client, tokens, {block.data(), block.size()});
  if (!key) return pass(std::move(key));
  if (Status status = flush(**name_space); !status) return status;
  Result<Fio> fio = Fio::prepare(target.nvme_directory, kBytes, Direction::kRead);
  if (!fio) return pass(std::move(fio));
  auto rounds = fio->run_beside(target.quick ? 3 : 7, [&]() -> Result<double> {
    if (Status status = evict_from_dram(**name_space, kBytes); !status)
      return pass(std::move(status));
    return promote(client, tokens, *key);
  });
  if (!rounds) return pass(std::move(rounds));
  emit(speed_row("nvme_promote", "GB/s", std::move(rounds->plain), kLeastRatio));
  emit(speed_row("nvme_promote_kept", "GB/s", std::move(rounds->keeping), kLeastRatio));
  return {};
}

Status bench_nvme_writeback(const Target& target, const Emit& emit) {
  auto name_space = TempNamespace::create(target.mount, "bench-writeback", llama_geometry());
  if (!name_space) return pass(std::move(name_space));
  kvfs_client* client = (*name_space)->client();
  const HugeBuffer block(kLlamaBlockBytes);
  Result<Fio> fio = Fio::prepare(target.nvme_directory, kBytes, Direction::kWrite);
  if (!fio) return pass(std::move(fio));
  std::vector<Round> rounds;
  for (int i = -1; i < (target.quick ? 3 : 7); ++i) {
    const std::vector<Token> tokens = make_prompt(static_cast<std::uint64_t>(i) + 1, kBlocks);
    Result<ReservationPtr> reservation = reserve(client, tokens);
    if (!reservation) return pass(std::move(reservation));
    const std::vector<void*> sources(kBlocks, block.data());
    const kvfs_blocks from{.size = sizeof(kvfs_blocks), .count = kBlocks, .blocks = sources.data()};
    if (Status status = check(kvfs_store_blocks(reservation->get(), 0, 0, &from, nullptr, nullptr));
        !status)
      return status;
    kvfs_commit_result result{};
    // Write-back begins at the commit.
    const Stopwatch watch;
    if (Status status = check(kvfs_commit(reservation->get(), 0, &result)); !status) return status;
    if (Status status = flush(**name_space); !status) return status;
    const double seconds = watch.seconds();
    reservation->reset();
    Result<double> limit = fio->run();
    if (!limit) return pass(std::move(limit));
    if (i >= 0) rounds.push_back({static_cast<double>(kBytes) / seconds / 1e9, *limit / 1e9});
    if (Status status = evict_prefix(**name_space, result.key); !status) return status;
  }
  emit(speed_row("nvme_writeback", "GB/s", std::move(rounds), kLeastRatio));
  return {};
}

}  // namespace kvfs::bench
