#include "tools/benchmarks/match_timing.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <random>
#include <vector>

#include "tools/benchmarks/data.h"
#include "tools/benchmarks/handles.h"
#include "tools/benchmarks/timing.h"

namespace kvfs::bench {
namespace {

constexpr double kMostP50 = 50, kMostP99 = 100;  // microseconds
constexpr std::size_t kSampledPrompts = 128;     // more records than the caches hold

std::uint32_t stored_blocks(std::uint64_t prompt, std::uint64_t blocks) {
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(kLongPromptBlocks, blocks - prompt * kLongPromptBlocks));
}

}  // namespace

Status fill_prompts(kvfs_client* client, std::uint64_t blocks,
                    const std::function<Status()>& pause) {
  alignas(4096) static std::array<std::byte, kTinyBlockBytes> block{};
  for (std::uint64_t prompt = 0; prompt * kLongPromptBlocks < blocks; ++prompt) {
    std::vector<Token> tokens = make_prompt(prompt, kLongPromptBlocks);
    tokens.resize(std::size_t{stored_blocks(prompt, blocks)} * kBlockTokens);
    if (Result<kvfs_key> key = store_copies(client, tokens, block); !key)
      return pass(std::move(key));
    const bool at_pause = (prompt + 1) * kLongPromptBlocks % kPauseBlocks == 0;
    if (Status status = at_pause ? pause() : Status{}; !status) return status;
  }
  return {};
}

Status time_matches(kvfs_client* client, const std::string& row, std::uint64_t blocks, bool quick,
                    const Emit& emit) {
  const std::uint64_t prompts = (blocks + kLongPromptBlocks - 1) / kLongPromptBlocks;
  std::mt19937_64 random(7);
  std::vector<std::uint64_t> numbers;
  std::vector<std::vector<Token>> sample;
  for (std::size_t i = 0; i < std::min<std::uint64_t>(kSampledPrompts, prompts); ++i) {
    numbers.push_back(prompts <= kSampledPrompts ? i : random() % prompts);
    sample.push_back(make_prompt(numbers.back(), kLongPromptBlocks));
  }
  std::vector<double> match_us, hash_us;
  std::vector<Key> keys(kLongPromptBlocks);
  const int count = quick ? 500 : 3000;
  for (int i = 0; i < count; ++i) {
    const std::size_t at = random() % sample.size();
    const Stopwatch hashing;
    chain_keys(Key{.lo = 1, .hi = 2}, sample[at], kBlockTokens, {}, keys);
    hash_us.push_back(hashing.seconds() * 1e6);

    const kvfs_prompt prompt = prompt_of(sample[at]);
    kvfs_match_result match{};
    const Stopwatch matching;
    const kvfs_status status = kvfs_match(client, &prompt, &match);
    match_us.push_back(matching.seconds() * 1e6);
    if (Status checked = check(status); !checked) return checked;
    if (match.blocks != stored_blocks(numbers[at], blocks)) {
      return fail(Code::kCorrupt, fmt::format("a match found {} of {} blocks", match.blocks,
                                              stored_blocks(numbers[at], blocks)));
    }
  }
  emit(cost_row(row, "us", median(match_us), median(hash_us), kMostP50));
  emit(cost_row(row + "_p99", "us", quantile(match_us, 0.99), quantile(hash_us, 0.99), kMostP99));
  return {};
}

}  // namespace kvfs::bench
