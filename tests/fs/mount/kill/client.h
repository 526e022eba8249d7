// What both kinds of client do alike.
#pragma once

#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <deque>
#include <fstream>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "lib/format/prefix_file.h"
#include "tests/fs/mount/kill/clients.h"

namespace kvfs::test {

// Goes on with steps whatever becomes of the daemon, and pauses between two of them when told to.
// Threads: one.
// Owns:    which prompts it keeps.
// Blocks:  run(), for ever.
// Errors:  what must not happen is a complaint in the ledger.
class KillClient {
 public:
  KillClient(LoadOptions options, Ledger& ledger)
      : options_(std::move(options)), ledger_(ledger), engine_(options_.seed) {}
  virtual ~KillClient() = default;
  KillClient(const KillClient&) = delete;
  KillClient& operator=(const KillClient&) = delete;

  // `spaces`: where it stores.
  [[noreturn]] void run(std::span<const std::size_t> spaces) {
    for (const std::size_t space : spaces) adopt(space);
    while (true) {
      const std::uint32_t pause = ledger_.pause;
      ledger_.paused[options_.client] = pause;
      if (pause != 0) {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      } else {
        step();
      }
    }
  }

 protected:
  virtual void step() = 0;

  // In [0, below).
  std::uint32_t random(std::uint32_t below) {
    return static_cast<std::uint32_t>(engine_()) % below;
  }
  PromptId random_prompt() {
    return {random(kFamilies), random(kBranches), 1 + random(kMaxBlocks)};
  }
  // Of those that nobody else promises: longer than what others share.
  PromptId own_prompt() {
    const std::uint32_t turn = random(kBranches / (kClients - 1));
    return {random(kFamilies), turn * (kClients - 1) + options_.client % (kClients - 1),
            kSharedBlocks + 1 + random(options_.pins != 0 ? 4 : kMaxBlocks - kSharedBlocks)};
  }
  [[nodiscard]] std::string path_of(std::size_t space, const PromptId& prompt) const {
    const auto tokens = tokens_of(prompt);
    std::vector<Key> keys(prompt.blocks);
    chain_keys(geometry_of(kSpaces[space]).seed(), tokens, kBlockTokens, {}, keys);
    return options_.mount + "/" + kSpaces[space].name + "/" + prefix_file_name(keys.back());
  }

  // Before the flush that will be acknowledged. false: it may be evicted.
  bool pin(std::size_t space, const PromptId& prompt) {
    if (options_.pins == 0) return true;
    while (kept_.size() >= options_.pins) {
      if (!give_up_one()) return false;
    }
    kept_.emplace_back(space, prompt);
    return set_pinned(path_of(space, prompt), "1");
  }
  // The flush was acknowledged.
  void promise(std::size_t space, const PromptId& prompt) {
    Ledger::Durable& entry = ledger_.entry(space, prompt);
    if (entry < prompt.blocks) entry = prompt.blocks;
    ++ledger_.flushed;
    if (options_.pins == 0) kept_.emplace_back(space, prompt);
  }
  // The oldest. false: it is still there.
  bool give_up_one() {
    if (kept_.empty()) return true;
    const auto [space, prompt] = kept_.front();
    ledger_.entry(space, prompt) = 0;
    const std::string path = path_of(space, prompt);
    if (options_.pins != 0) {
      if (!set_pinned(path, "0") && errno != ENOENT) return false;
    } else if (::unlink(path.c_str()) == 0) {
      ++ledger_.removed;
    } else {
      expect_errno("unlink of " + path);
    }
    kept_.pop_front();
    return true;
  }

  // What a call may end with while daemons die, prefixes are evicted and tiers are full.
  void expect_errno(const std::string& what) {
    const int error = errno;
    switch (error) {
      case ENOTCONN:
      case ECONNABORTED:
      case ENOENT:
      case ESTALE:
      case EBUSY:
        return;
      case EIO:  // the kernel's, too: of a request on its way into a daemon that is killed
        if (!daemon_answers()) return;
        [[fallthrough]];
      default:
        ledger_.complain(what + ": " + std::strerror(error));
    }
  }
  [[nodiscard]] bool daemon_answers() const {
    const int file = ::open((options_.mount + "/.kvfs/stats.json").c_str(), O_RDONLY | O_CLOEXEC);
    if (file >= 0) ::close(file);
    return file >= 0;
  }

  const LoadOptions options_;
  Ledger& ledger_;

 private:
  // What was promised by the client before this one, which was killed; other pins of it go.
  void adopt(std::size_t space) {
    for (PromptId prompt{}; prompt.family < kFamilies; ++prompt.family) {
      for (prompt.branch = options_.client % (kClients - 1); prompt.branch < kBranches;
           prompt.branch += kClients - 1) {
        const std::uint32_t promised = ledger_.entry(space, prompt);
        for (prompt.blocks = kSharedBlocks + 1; prompt.blocks <= kMaxBlocks; ++prompt.blocks) {
          if (prompt.blocks == promised) {
            kept_.emplace_back(space, prompt);
          } else if (options_.pins != 0) {
            set_pinned(path_of(space, prompt), "0");
          }
        }
      }
    }
  }
  bool set_pinned(const std::string& path, const char* value) {
    if (::setxattr(path.c_str(), "user.kvfs.pinned", value, 1, 0) == 0) return true;
    expect_errno("pinning " + path);
    return false;
  }

  std::mt19937 engine_;
  std::deque<std::pair<std::size_t, PromptId>> kept_;  // promised, or pinned to be
};

}  // namespace kvfs::test
