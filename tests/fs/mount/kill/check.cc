#include "tests/fs/mount/kill/check.h"

#include <fcntl.h>
#include <unistd.h>
#include <kvfs/kvfs.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "lib/format/prefix_file.h"
#include "tests/support/mounted.h"

namespace kvfs::test {
namespace {

using nlohmann::json;

std::string described(const Space& space, const PromptId& prompt) {
  return std::string(space.name) + ", family " + std::to_string(prompt.family) + ", branch " +
         std::to_string(prompt.branch) + ", " + std::to_string(prompt.blocks) + " blocks: ";
}

// Room in DRAM may have to come from another namespace's slab, which its clients give back within
// their next look.
void load_when_there_is_room(Lease& lease, std::span<void* const> blocks) {
  std::string refused;
  const bool loaded = eventually([&] {
    try {
      lease.load_blocks(0, 0, blocks);
      return true;
    } catch (const api::Error& error) {
      if (error.status() != KVFS_NO_SPACE) throw;
      refused = error.what();
      return false;
    }
  });
  if (!loaded) throw std::runtime_error(refused);
}

// Loads what is cached of the prompt; at least `promised` blocks are to be.
std::string wrong_in_prompt(Client& client, const PromptId& prompt, std::uint32_t promised) {
  const auto tokens = tokens_of(prompt);
  auto [lease, match] = client.acquire(Prompt{tokens});
  if (match.blocks < promised) {
    return "flushed, but only " + std::to_string(match.blocks) + " blocks are cached";
  }
  if (!lease) return {};
  const std::uint64_t bytes = client.block_bytes();
  std::vector<std::byte> memory(bytes * match.blocks);
  std::vector<void*> blocks;
  for (std::uint32_t i = 0; i < match.blocks; ++i) blocks.push_back(&memory[i * bytes]);
  load_when_there_is_room(*lease, blocks);
  std::vector<std::byte> expected(bytes);
  for (std::uint32_t i = 0; i < match.blocks; ++i) {
    fill_block(tokens, i, expected);
    if (std::memcmp(expected.data(), blocks[i], bytes) != 0) {
      return "block " + std::to_string(i) + " of " + std::to_string(match.blocks) + " is wrong";
    }
  }
  return {};
}

std::string wrong_in_prompts(const std::string& mount, std::size_t space, const Ledger& ledger) {
  Client client(mount, kSpaces[space].name);
  for (PromptId prompt{.blocks = kMaxBlocks}; prompt.family < kFamilies; ++prompt.family) {
    for (prompt.branch = 0; prompt.branch < kBranches; ++prompt.branch) {
      const std::uint32_t promised = ledger.durable[space][prompt.family][prompt.branch];
      const std::string wrong = wrong_in_prompt(client, prompt, promised);
      if (!wrong.empty()) {
        return described(kSpaces[space], {prompt.family, prompt.branch, promised}) + wrong;
      }
    }
  }
  return {};
}

// A file that is gone is none of ours: write-back goes on, and may evict for it.
std::string wrong_in_listed(const std::filesystem::path& path, const Geometry& geometry) {
  const auto key = key_from_file_name(path.filename().string());
  if (!key) return "it has a foreign name";
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return errno == ENOENT ? "" : std::string("open: ") + std::strerror(errno);
  std::vector<std::byte> bytes(static_cast<std::size_t>(::lseek(file, 0, SEEK_END)));
  std::size_t done = 0;
  ssize_t got = 1;
  while (done < bytes.size() && got > 0) {
    got = ::pread(file, &bytes[done], bytes.size() - done, static_cast<off_t>(done));
    if (got > 0) done += static_cast<std::size_t>(got);
  }
  const int error = errno;
  ::close(file);
  if (got < 0) return std::string("read: ") + std::strerror(error);
  if (done < bytes.size()) return "it is shorter than its size";
  return wrong_in_file(geometry, *key, bytes);
}

std::string wrong_in_listing(const std::string& mount, const Space& space) {
  const Geometry geometry = geometry_of(space);
  for (const auto& entry : std::filesystem::directory_iterator(mount + "/" + space.name)) {
    const std::string wrong = wrong_in_listed(entry.path(), geometry);
    if (!wrong.empty()) return entry.path().string() + ": " + wrong;
  }
  return {};
}

json stats_of(const std::string& mount) {
  std::ifstream file(mount + "/.kvfs/stats.json");
  return json::parse(std::string(std::istreambuf_iterator<char>(file), {}));
}

std::string flush(const std::string& mount) {
  const std::string path = mount + "/.kvfs/control";
  const int file = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  const std::string request = R"({"op": "flush", "timeout_s": 30})";
  std::array<char, 4096> answer{};
  if (::write(file, request.data(), request.size()) < 0) return std::strerror(errno);
  if (::read(file, answer.data(), answer.size() - 1) < 0) return std::strerror(errno);
  ::close(file);
  const json parsed = json::parse(answer.data());
  return parsed["ok"] ? "" : parsed["error"];
}

bool accounts_agree(const json& stats) {
  std::uint64_t dram = 0;
  std::uint64_t nvme = 0;
  for (const json& space : stats["namespaces"]) {
    if (space["leases_open"] != 0 || space["reservations_open"] != 0) return false;
    dram += space["tiers"]["dram"]["bytes"].get<std::uint64_t>();
    nvme += space["tiers"]["nvme"]["bytes"].get<std::uint64_t>();
  }
  return stats["quarantined_bytes"] == 0 && stats["tiers"]["dram"]["used"] == dram &&
         stats["tiers"]["nvme"]["used"] == nvme &&
         stats["tiers"]["dram"]["reserved"] <= stats["tiers"]["dram"]["capacity"] &&
         stats["tiers"]["nvme"]["reserved"] <= stats["tiers"]["nvme"]["capacity"];
}

bool nothing_was_bad(const json& stats) {
  return stats["tiers"]["nvme"]["errors"] == 0 &&
         std::ranges::all_of(stats["namespaces"], [](const json& space) {
           return space["evictions"]["corrupt"] == 0 && space["evictions"]["io_error"] == 0;
         });
}

}  // namespace

std::string wrong_in_contents(const std::string& mount, const Ledger& ledger) {
  for (std::size_t space = 0; space < kSpaces.size(); ++space) {
    try {
      std::string wrong = wrong_in_prompts(mount, space, ledger);
      if (wrong.empty()) wrong = wrong_in_listing(mount, kSpaces[space]);
      if (!wrong.empty()) return wrong;
    } catch (const std::exception& error) {
      return std::string(kSpaces[space].name) + ": " + error.what();
    }
  }
  return {};
}

std::string wrong_in_accounts(const std::string& mount) {
  const std::string flushed = flush(mount);
  if (!flushed.empty()) return "flush: " + flushed;
  if (!eventually([&] { return accounts_agree(stats_of(mount)); })) {
    return "something is held, or was lost: " + stats_of(mount).dump();
  }
  if (const json stats = stats_of(mount); !nothing_was_bad(stats)) {
    return "blocks were bad: " + stats.dump();
  }
  return {};
}

}  // namespace kvfs::test
