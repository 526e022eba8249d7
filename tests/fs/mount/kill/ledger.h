// What the processes of the kill test share: what was promised to be durable, and what went wrong.
#pragma once

#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <new>
#include <stdexcept>
#include <string>

#include "tests/fs/mount/kill/prompts.h"

namespace kvfs::test {

inline constexpr std::uint32_t kClients = 4;  // three by the library, one by the shell

// Outlives every process but the test's own: a client's last word counts although it was killed.
// A prompt's entry is written after the flush that made it durable was acknowledged, and taken back
// before the prompt is given up.
struct Ledger {
  std::atomic<std::uint32_t> pause{0};  // the round whose end clients are to wait for; 0: none
  std::array<std::atomic<std::uint32_t>, kClients> paused{};  // the round they wait for
  using Durable = std::atomic<std::uint32_t>;                 // blocks
  std::array<std::array<std::array<Durable, kBranches>, kFamilies>, kSpaces.size()> durable{};
  std::atomic<std::uint64_t> stored{0}, loaded{0}, flushed{0}, removed{0}, copied_out{0},
      copied_in{0}, lost{0};
  std::atomic<bool> complained{false};
  std::array<char, 1000> complaint{};

  // The first one is kept.
  void complain(const std::string& sentence) {
    if (complained.exchange(true)) return;
    std::snprintf(complaint.data(), complaint.size(), "%s", sentence.c_str());
  }
  Durable& entry(std::size_t space, const PromptId& prompt) {
    return durable[space][prompt.family][prompt.branch];
  }
  [[nodiscard]] std::uint64_t promised() const {
    std::uint64_t prompts = 0;
    for (const auto& space : durable) {
      for (const auto& family : space) {
        for (const Durable& blocks : family) prompts += blocks != 0 ? 1 : 0;
      }
    }
    return prompts;
  }
};

// Threads: the ledger's own fields are atomic.
// Owns:    the memory.
// Blocks:  never.
// Errors:  by exception when there is no memory.
class SharedLedger {
 public:
  SharedLedger()
      : memory_(::mmap(nullptr, sizeof(Ledger), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                       -1, 0)) {
    if (memory_ == MAP_FAILED) throw std::runtime_error("mmap of the ledger");
    ledger_ = new (memory_) Ledger;
  }
  ~SharedLedger() { ::munmap(memory_, sizeof(Ledger)); }
  SharedLedger(const SharedLedger&) = delete;
  SharedLedger& operator=(const SharedLedger&) = delete;
  Ledger* operator->() const { return ledger_; }
  Ledger& operator*() const { return *ledger_; }

 private:
  void* memory_;
  Ledger* ledger_ = nullptr;
};

}  // namespace kvfs::test
