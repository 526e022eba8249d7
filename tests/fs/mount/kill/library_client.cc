// The tree's own types come before the C++ API, which has some of the same names.
#include "tests/fs/mount/kill/client.h"

#include <kvfs/kvfs.hpp>

#include <algorithm>
#include <memory>
#include <optional>

namespace kvfs::test {
namespace {

// Whole blocks in this process's memory.
class BlockMemory {
 public:
  BlockMemory(std::uint64_t block_bytes, std::uint32_t count)
      : bytes_(block_bytes), memory_(block_bytes * count) {
    for (std::uint32_t i = 0; i < count; ++i) blocks_.push_back(&memory_[i * block_bytes]);
  }
  [[nodiscard]] std::span<void* const> all() const { return blocks_; }
  [[nodiscard]] std::span<std::byte> block(std::uint32_t i) {
    return {&memory_[i * bytes_], bytes_};
  }

 private:
  std::uint64_t bytes_;
  std::vector<std::byte> memory_;
  std::vector<void*> blocks_;
};

void store_prompt(Client& client, const PromptId& prompt) {
  const auto tokens = tokens_of(prompt);
  Reservation reservation = client.reserve({tokens});
  const kvfs_range range = reservation.range();
  BlockMemory memory(client.block_bytes(), range.count);
  for (std::uint32_t i = 0; i < range.count; ++i) {
    fill_block(tokens, range.first_block + i, memory.block(i));
  }
  if (range.count != 0) reservation.store_blocks(0, range.first_block, memory.all());
  reservation.commit();
}

static_assert(kCopies == 2);  // it stores in the namespaces before that

class LibraryClient final : public KillClient {
 public:
  using KillClient::KillClient;

 private:
  void step() override {
    try {
      const std::size_t space = random(kCopies);
      switch (random(10)) {
        case 0:
        case 1:
          return store(space, random_prompt());
        case 2:
        case 3:
          return store_durably(space, own_prompt());
        case 8:
          return prefetch(space, random_prompt());
        case 9:
          if (random(3) != 0) return abandon(space, random_prompt());
          give_up_one();
          return;
        default:
          return load(space, random_prompt());
      }
    } catch (const api::Error& error) {
      expect(error);
    }
  }

  void expect(const api::Error& error) {
    switch (error.status()) {
      case KVFS_UNAVAILABLE:
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        return;
      case KVFS_NOT_FOUND:
      case KVFS_NO_SPACE:
      case KVFS_BUSY:
        return;
      case KVFS_CORRUPT:
        // Removed while it was read. The daemon counts what is bad.
        if (options_.pins == 0) {
          ++ledger_.lost;
          return;
        }
        [[fallthrough]];
      default:
        ledger_.complain(std::string(kvfs_status_name(error.status())) + ": " + error.what());
    }
  }

  // Kept over daemons: the library finds the next one by itself.
  Client& client(std::size_t space) {
    auto& client = clients_[space];
    if (!client)
      client.emplace(options_.mount, kSpaces[space].name, OpenOptions{.timeout_ms = 100});
    return *client;
  }

  void store(std::size_t space, const PromptId& prompt) {
    store_prompt(client(space), prompt);
    ++ledger_.stored;
  }

  void store_durably(std::size_t space, const PromptId& prompt) {
    store(space, prompt);
    const auto tokens = tokens_of(prompt);
    auto [lease, match] = client(space).acquire(Prompt{tokens});
    if (!lease || match.blocks != prompt.blocks || !pin(space, prompt)) return;
    lease->flush(20000);
    promise(space, prompt);
  }

  // A writer that does not commit.
  void abandon(std::size_t space, const PromptId& prompt) {
    const auto tokens = tokens_of(prompt);
    const Reservation reservation = client(space).reserve({tokens});
  }

  void prefetch(std::size_t space, const PromptId& prompt) {
    const auto tokens = tokens_of(prompt);
    const kvfs_match_result match = client(space).match({tokens});
    if (match.blocks != 0) client(space).prefetch(match.key);
  }

  void load(std::size_t space, const PromptId& prompt) {
    const auto tokens = tokens_of(prompt);
    auto [lease, match] = client(space).acquire(Prompt{tokens});
    if (!lease) return;
    BlockMemory memory(client(space).block_bytes(), match.blocks);
    lease->load_blocks(0, 0, memory.all());
    std::vector<std::byte> expected(client(space).block_bytes());
    for (std::uint32_t i = 0; i < match.blocks; ++i) {
      fill_block(tokens, i, expected);
      if (std::ranges::equal(expected, memory.block(i))) continue;
      ledger_.complain("a client loaded wrong bytes: block " + std::to_string(i) + " of " +
                       std::to_string(match.blocks) + " in " + kSpaces[space].name);
      return;
    }
    ++ledger_.loaded;
  }

  std::array<std::optional<Client>, kSpaces.size()> clients_;
};

}  // namespace

void create_spaces(const std::string& mount) {
  for (const Space& space : kSpaces) {
    const Geometry geometry = geometry_of(space);
    kvfs_geometry c{};
    c.model = geometry.model.c_str();
    c.dtype = KVFS_F32;
    c.block_tokens = geometry.block_tokens;
    c.group_count = 1;
    c.groups[0] = {.layers = geometry.groups[0].layers,
                   .kv_heads = geometry.groups[0].kv_heads,
                   .head_dim = geometry.groups[0].head_dim,
                   .kv_factor = geometry.groups[0].kv_factor,
                   .window = 0};
    Client::create_namespace(mount, space.name, c);
  }
}

void store_all_prompts(const std::string& mount) {
  for (std::size_t space = 0; space < kCopies; ++space) {
    Client client(mount, kSpaces[space].name);
    for (PromptId prompt{.blocks = kMaxBlocks}; prompt.family < kFamilies; ++prompt.family) {
      for (prompt.branch = 0; prompt.branch < kBranches; ++prompt.branch) {
        store_prompt(client, prompt);
      }
    }
  }
}

void run_library_client(const LoadOptions& options, Ledger& ledger) {
  LibraryClient(options, ledger).run(std::array<std::size_t, 2>{0, 1});
}

}  // namespace kvfs::test
