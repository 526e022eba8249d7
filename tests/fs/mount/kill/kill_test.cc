// kvfsd is killed again and again while clients use its mount.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <random>
#include <thread>

#include "tests/fs/mount/kill/check.h"
#include "tests/fs/mount/kill/clients.h"
#include "tests/support/child.h"
#include "tests/support/mounted.h"

namespace kvfs::test {
namespace {

constexpr std::uint32_t kShellClient = kClients - 1;

// KVFS_KILL_ROUNDS for longer campaigns.
std::uint32_t rounds() {
  const char* text = std::getenv("KVFS_KILL_ROUNDS");
  return text == nullptr ? 26 : static_cast<std::uint32_t>(std::stoul(text));
}

// What the daemons did that were killed, by their last words.
struct Work {
  std::uint64_t promoted = 0, written_back = 0, demoted = 0, dropped = 0, slabs_moved = 0;
  std::uint64_t bad = 0;  // of them, blocks whose bytes or whose disk were not as they should be

  void add(const std::string& text) {
    const auto stats = nlohmann::json::parse(text, nullptr, false);
    if (stats.is_discarded()) return;
    for (const auto& space : stats["namespaces"]) {
      promoted += space["promoted_bytes"].get<std::uint64_t>();
      written_back += space["written_back_bytes"].get<std::uint64_t>();
      demoted += space["evictions"]["demoted"].get<std::uint64_t>();
      dropped += space["evictions"]["capacity"].get<std::uint64_t>();
      slabs_moved += space["evictions"]["slab_moved"].get<std::uint64_t>();
      bad += space["evictions"]["corrupt"].get<std::uint64_t>() +
             space["evictions"]["io_error"].get<std::uint64_t>();
    }
  }
};

class KillTest : public Mounted {
 protected:
  void TearDown() override {
    for (auto& client : clients_) client.reset();
    Mounted::TearDown();
  }

  void SetUp() override {
    Mounted::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    ASSERT_EQ(in_child([&] {
                create_spaces(mount());
                return 0;
              }),
              0);
  }

  void start_clients(std::uint32_t pins) {
    pins_ = pins;
    for (std::uint32_t i = 0; i < kClients; ++i) start_client(i);
  }

  void start_client(std::uint32_t client) {
    ledger_->paused[client] = 0;
    const LoadOptions options{.mount = mount(),
                              .scratch = scratch_[client].path().string(),
                              .client = client,
                              .seed = static_cast<unsigned>(random_()),
                              .pins = pins_};
    clients_[client] = std::make_unique<Child>([&]() -> int {
      client == kShellClient ? run_shell_client(options, *ledger_)
                             : run_library_client(options, *ledger_);
    });
  }

  // Until every client has ended what it was doing: one that hangs fails the test.
  void pause_clients(std::uint32_t round) {
    ledger_->pause = round + 1;
    ASSERT_TRUE(eventually(
        [&] {
          return std::ranges::all_of(ledger_->paused,
                                     [&](const auto& paused) { return paused == round + 1; });
        },
        60))
        << "a client hangs";
  }
  void go_on() { ledger_->pause = 0; }

  void load_for(int least_ms, int most_ms) {
    const auto more = static_cast<int>(random_() % static_cast<unsigned>(most_ms - least_ms));
    std::this_thread::sleep_for(std::chrono::milliseconds(least_ms + more));
  }

  void round(std::uint32_t round) {
    go_on();
    load_for(50, 400);
    std::uint32_t killed_client = kClients;
    if (round % 3 == 1) {
      killed_client = static_cast<std::uint32_t>(random_()) % kClients;
      clients_[killed_client]->kill();
      load_for(0, 50);
    }
    work_.add(daemon().read(".kvfs/stats.json"));
    load_for(0, 20);
    daemon().kill();
    if (killed_client != kClients) start_client(killed_client);
    const bool meets_next = round % 2 == 0;  // clients go on while the next daemon starts
    if (!meets_next) {
      ASSERT_NO_FATAL_FAILURE(pause_clients(round));
    }
    if (round % 4 == 3) daemon().lose_memory();
    daemon().start();
    if (meets_next) {
      load_for(20, 200);
      ASSERT_NO_FATAL_FAILURE(pause_clients(round));
    }
    ASSERT_FALSE(ledger_->complained) << ledger_->complaint.data();
    ASSERT_EQ(work_.bad, 0U);
    ASSERT_EQ(wrong_by_child([&] { return wrong_in_accounts(mount()); }), "");
    ASSERT_EQ(wrong_by_child([&] { return wrong_in_contents(mount(), *ledger_); }), "");
    ASSERT_EQ(wrong_by_child([&] { return wrong_in_accounts(mount()); }), "");
    Work now;  // of this daemon, which has read all there is
    now.add(daemon().read(".kvfs/stats.json"));
    ASSERT_EQ(now.bad, 0U);
  }

  void campaign(std::uint32_t pins) {
    ASSERT_NO_FATAL_FAILURE(start_clients(pins));
    // On a slow machine rounds see little: there are more of them then.
    for (std::uint32_t i = 0; i < rounds() || (i < 4 * rounds() && !was_a_load()); ++i) {
      SCOPED_TRACE("round " + std::to_string(i));
      ASSERT_NO_FATAL_FAILURE(round(i));
    }
    std::printf(
        "[          ] stored %lu, loaded %lu, flushed %lu, removed %lu, lost %lu, copied "
        "out %lu, in %lu, promised at the end %lu\n",
        ledger_->stored.load(), ledger_->loaded.load(), ledger_->flushed.load(),
        ledger_->removed.load(), ledger_->lost.load(), ledger_->copied_out.load(),
        ledger_->copied_in.load(), ledger_->promised());
    std::printf(
        "[          ] promoted %lu MiB, written back %lu MiB, demoted %lu, dropped %lu, "
        "moved with slabs %lu blocks\n",
        work_.promoted >> 20, work_.written_back >> 20, work_.demoted, work_.dropped,
        work_.slabs_moved);
    EXPECT_TRUE(was_a_load());
  }

  // Everything a client may do was done, so that there was something to kill.
  [[nodiscard]] virtual bool was_a_load() const {
    return ledger_->stored > 0 && ledger_->loaded > 0 && ledger_->flushed > 0 &&
           ledger_->copied_out > 0 && ledger_->copied_in > 0 && work_.promoted > 0 &&
           work_.written_back > 0 && work_.demoted > 0;
  }

  // The library starts threads; this process forks, and has none.
  static std::string wrong_by_child(const std::function<std::string()>& check) {
    const SharedLedger said;
    const int status = in_child([&] {
      const std::string wrong = check();
      if (!wrong.empty()) said->complain(wrong);
      return 0;
    });
    if (status != 0) return "the check ended with " + std::to_string(status);
    return said->complained ? said->complaint.data() : "";
  }

  Work work_;
  SharedLedger ledger_;

 private:
  std::uint32_t pins_ = 0;
  std::mt19937 random_{std::random_device{}()};
  std::array<TempDirectory, kClients> scratch_;
  std::array<std::unique_ptr<Child>, kClients> clients_;
};

// NVMe holds all there is: nothing that was flushed may be missing.
class NvmeHoldsAll : public KillTest {
 protected:
  DaemonProcess::Options options() const override {
    return {.dram = "12MiB",
            .nvme = "512MiB",
            .more = {"--slab", "2MiB", "--quarantine", "200ms", "--log-level", "warning"}};
  }
  bool was_a_load() const override { return KillTest::was_a_load() && ledger_->removed > 0; }
};

TEST_F(NvmeHoldsAll, AllThatWasFlushedIsServedAfterSigkill) { campaign(0); }

// Both tiers are full: blocks leave NVMe, too, but for those that are pinned. A slab with a pinned
// block cannot move to another namespace: there are more slabs than pinned prefixes can touch.
class BothTiersFull : public KillTest {
 protected:
  DaemonProcess::Options options() const override {
    return {.dram = "48MiB",
            .nvme = "64MiB",
            .more = {"--slab", "2MiB", "--segment", "2MiB", "--quarantine", "200ms", "--log-level",
                     "warning"}};
  }
  bool was_a_load() const override { return KillTest::was_a_load() && work_.dropped > 0; }
};

TEST_F(BothTiersFull, AllThatWasPinnedAndFlushedIsServedAfterSigkill) {
  ASSERT_EQ(in_child([&] {
              store_all_prompts(mount());
              return 0;
            }),
            0);
  campaign(2);
}

}  // namespace
}  // namespace kvfs::test
