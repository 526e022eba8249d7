// A namespace of a million blocks on NVMe: match_32k_1m, metadata_bytes, restart_1m.
#include <fcntl.h>
#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "fs/unique_fd.h"
#include "tools/benchmarks/benches.h"
#include "tools/benchmarks/data.h"
#include "tools/benchmarks/handles.h"
#include "tools/benchmarks/match_timing.h"
#include "tools/benchmarks/timing.h"
#include "tools/cli/control_client.h"
#include "tools/cli/stats_file.h"

namespace kvfs::bench {
namespace {

constexpr double kMostBytesPerBlock = 256;
constexpr double kMostRestartSeconds = 1;

Result<ClientPtr> open_million(const std::string& mount) {
  const kvfs_open_options options{.size = sizeof(kvfs_open_options)};
  kvfs_client* client = nullptr;
  if (Status status = check(kvfs_open(mount.c_str(), kMillion, nullptr, &options, &client));
      !status)
    return pass(std::move(status));
  return ClientPtr(client);
}

// Reading the journal from start to end: no recovery that uses it can be faster.
Result<double> read_journal(const std::string& directory) {
  namespace fs = std::filesystem;
  std::vector<char> piece(std::size_t{1} << 20);
  const Stopwatch watch;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file() || entry.path().filename() != "data.mdb") continue;
    const UniqueFd file(::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC));
    ssize_t got = 0;
    do {
      got = ::read(file.get(), piece.data(), piece.size());
    } while (got > 0);
    if (got < 0) return fail_errno(errno, entry.path().string());
  }
  return watch.seconds();
}

// Until the namespace answers with the whole prompt; the mount is there already.
Status match_whole_prompt(const std::string& mount) {
  Result<ClientPtr> client = open_million(mount);
  if (!client) return pass(std::move(client));
  const std::vector<Token> tokens = make_prompt(0, kLongPromptBlocks);
  const kvfs_prompt prompt = prompt_of(tokens);
  kvfs_match_result match{};
  if (Status status = check(kvfs_match(client->get(), &prompt, &match)); !status) return status;
  if (match.blocks == kLongPromptBlocks) return {};
  return fail(Code::kCorrupt, fmt::format("after the restart a prefix has {} of {} blocks",
                                          match.blocks, kLongPromptBlocks));
}

}  // namespace

Status fill_million(const Target& target) {
  Result<ClientPtr> client = create_and_open(target.mount, kMillion, tiny_geometry());
  if (!client) return pass(std::move(client));
  Result<cli::ControlClient> control = cli::ControlClient::open_namespace(target.mount, kMillion);
  if (!control) return pass(std::move(control));
  // Stores are faster than the disk: a cache drops what it cannot write in time, and here all must
  // stay.
  const auto flush = [&]() -> Status {
    Result<nlohmann::json> done = control->call({{"op", "flush"}, {"timeout_s", 240}});
    return done ? Status{} : pass(std::move(done));
  };
  if (Status status = fill_prompts(client->get(), kMillionBlocks, flush); !status) return status;
  return flush();
}

Status bench_match_million(const Target& target, const Emit& emit) {
  Result<ClientPtr> client = open_million(target.mount);
  if (!client) return pass(std::move(client));
  return time_matches(client->get(), "match_32k_1m", kMillionBlocks, target.quick, emit);
}

Status bench_metadata(const Target& target, const Emit& emit) {
  Result<nlohmann::json> stats = cli::read_namespace_stats(target.mount, kMillion);
  if (!stats) return pass(std::move(stats));
  const std::uint64_t blocks = cli::count_of(*stats, "blocks");
  if (blocks != kMillionBlocks) {
    return fail(Code::kCorrupt,
                fmt::format("the namespace has {} of {} blocks", blocks, kMillionBlocks));
  }
  // A key and the tokens are what an index of prefixes cannot do without.
  const double least = sizeof(Key) + kBlockTokens * sizeof(Token);
  const double bytes =
      static_cast<double>(cli::count_of(*stats, "metadata_bytes")) / static_cast<double>(blocks);
  emit(cost_row("metadata_bytes", "B/block", bytes, least, kMostBytesPerBlock));
  return {};
}

Status bench_restart(Daemon& daemon, const Target& target, const Emit& emit) {
  std::vector<double> restart, journal;
  for (int round = 0; round < (target.quick ? 1 : 3); ++round) {
    if (Status status = daemon.stop(); !status) return status;
    Result<double> read = read_journal(daemon.state_directory());
    if (!read) return pass(std::move(read));
    journal.push_back(*read);
    const Stopwatch watch;
    if (Status status = daemon.start(); !status) return status;
    if (Status status = match_whole_prompt(target.mount); !status) return status;
    restart.push_back(watch.seconds());
  }
  emit(cost_row("restart_1m", "s", median(restart), median(journal), kMostRestartSeconds));
  return {};
}

}  // namespace kvfs::bench
