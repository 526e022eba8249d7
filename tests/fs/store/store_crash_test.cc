// SIGKILL of a store under load, at any moment and at the worst ones.
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <functional>
#include <random>
#include <thread>

#include "fs/sync_point.h"
#include "tests/fs/store/store_fixture.h"

namespace kvfs::store {
namespace {

// What the child tells: a prompt's number and length are in the file before it goes on. First of
// all, with no blocks: that the namespace is there.
struct Acknowledged {
  std::uint32_t seed;
  std::uint32_t blocks;
};

// Stores, evicts, loads and flushes until it is killed.
[[noreturn]] void load_until_killed(const StoreOptions& options, int report, unsigned round) {
  spdlog::set_level(spdlog::level::off);
  auto store = Store::open(options, nullptr);
  if (!store) {
    std::fprintf(stderr, "the child: %s\n", store.error().message.c_str());
    ::_exit(3);
  }
  const auto ns = (*store)->create_namespace("ns", small_geometry(), {})->first;
  const Acknowledged namespace_is_there{};
  if (::write(report, &namespace_is_there, sizeof namespace_is_there) < 0) ::_exit(4);
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 engine(round * 100 + t);
      const auto random = [&] { return static_cast<std::uint32_t>(engine()); };
      while (true) {
        const Acknowledged what{random() % 40, 1 + random() % 10};
        const auto tokens = prompt(what.seed, what.blocks);
        const Key tip = keys_of(ns->geometry(), tokens).back();
        if (!put(*ns, tokens)) continue;
        auto lease = ns->lease(tip, false);
        if (!lease) continue;
        if (random() % 4 == 0) {
          ignore_error(ns->evict(keys_of(ns->geometry(), prompt(random() % 40, 10)).front()),
                       "load");
        }
        if (random() % 4 == 0) {
          ignore_error(check_prefix(*ns, prompt(random() % 40, 1 + random() % 10)), "load");
        }
        const Status durable =
            wait_done([&](Done done) { (*lease)->flush(in_seconds(20), std::move(done)); }, 30);
        if (durable && ns->contains(tip) && ::write(report, &what, sizeof what) != sizeof what)
          ::_exit(4);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ::_exit(0);
}

class StoreCrash : public StoreTest {
 protected:
  // Runs the load in a child and kills it when it ran for `ms`; what it acknowledged.
  std::vector<Acknowledged> crash(const StoreOptions& with, unsigned round, int ms) {
    return crash(
        with, round, [] {}, std::chrono::milliseconds(ms));
  }
  // The same where the child, told by `prepare`, kills itself; `patience` is for one that does not.
  std::vector<Acknowledged> crash(const StoreOptions& with, unsigned round,
                                  const std::function<void()>& prepare,
                                  std::chrono::milliseconds patience) {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      ::close(ends[0]);
      prepare();
      load_until_killed(with, ends[1], round);
    }
    ::close(ends[1]);
    // What it writes never fills the pipe: 8 bytes each, some hundreds.
    siginfo_t ended{};
    pollfd told{.fd = ends[0], .events = POLLIN, .revents = 0};
    auto until = Clock::now() + std::chrono::seconds(60);
    bool runs = false;
    while (Clock::now() < until && ended.si_pid == 0) {
      if (!runs && ::poll(&told, 1, 0) == 1 && (told.revents & POLLIN) != 0) {
        runs = true;
        until = Clock::now() + patience;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      EXPECT_EQ(::waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOHANG | WNOWAIT), 0);
    }
    ended_by_itself_ = ended.si_pid != 0;
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status)) << "the child ended by itself with " << WEXITSTATUS(status);
    std::vector<Acknowledged> acknowledged;
    Acknowledged one{};
    while (::read(ends[0], &one, sizeof one) == sizeof one) {
      if (one.blocks != 0) acknowledged.push_back(one);
    }
    ::close(ends[0]);
    return acknowledged;
  }
  // As after a power cut: what a killed child had in memory is gone, too.
  void lose_memory() {
    std::filesystem::remove_all(memory_.file("slabs"));
    std::filesystem::remove_all(memory_.file("run"));
  }
  // All that was flushed is there.
  static void check_promises(Namespace& ns, std::span<const Acknowledged> acknowledged) {
    for (const Acknowledged& what : acknowledged) {
      if (what.blocks == 1) continue;  // may have been evicted since
      ASSERT_TRUE(cached(ns, prompt(what.seed, what.blocks)))
          << "flushed, but gone: " << what.seed << " of " << what.blocks;
    }
  }
  // Everything that is cached has the right bytes. Where the tiers are full, what nobody holds may
  // leave between the match and the look, or once it was verified: write-back goes on.
  enum class Tiers { kHoldAll, kFull };
  void check_all(Namespace& ns, Tiers tiers = Tiers::kHoldAll) {
    for (std::uint32_t seed = 0; seed < 40; ++seed) {
      const auto tokens = prompt(seed, 10);
      const std::uint32_t length = ns.match(keys_of(ns.geometry(), tokens));
      if (length == 0) continue;
      const Status right = check_prefix(ns, std::span(tokens).first(length * 8));
      if (tiers == Tiers::kFull && !right && right.error().code == Code::kNotFound) continue;
      ASSERT_OK(right);
    }
    const auto verified = ns.verify(0, 1 << 20);
    ASSERT_OK(verified);
    EXPECT_TRUE(verified->bad.empty());
    if (tiers == Tiers::kFull) {
      EXPECT_GE(verified->checked, ns.stats().blocks);
    } else {
      EXPECT_EQ(verified->checked, ns.stats().blocks);
    }
  }

  bool ended_by_itself_ = false;
};

// Eviction by capacity may take what was acknowledged, rm (of block 0 only, which frees a prefix of
// one block) may too; here neither does: the tiers hold all of it, and rm is of prefixes of one
// block, which are put back if they were acknowledged as part of a longer one.
TEST_F(StoreCrash, KilledUnderLoadItServesOnlyRightBytesAndAllThatWasFlushed) {
  const auto with = options(16 * kSlab, 256 << 20);
  std::size_t total = 0;
  for (unsigned round = 0; round < 10; ++round) {
    const auto acknowledged = crash(with, round, 150 + static_cast<int>(round) * 23);
    total += acknowledged.size();
    if (round % 2 == 1) lose_memory();
    open(with);
    const auto ns = store_->find_namespace("ns");
    ASSERT_NE(ns, nullptr);
    SCOPED_TRACE("round " + std::to_string(round));
    ASSERT_NO_FATAL_FAILURE(check_promises(*ns, acknowledged));
    check_all(*ns);
    ASSERT_OK(flush(*ns));
    const auto stats = store_->stats();
    EXPECT_EQ(stats.dirty_bytes, 0U);
    EXPECT_EQ(stats.nvme.used, ns->stats().nvme_blocks * 65536);
    EXPECT_EQ(stats.dram.used - stats.quarantined_bytes, ns->stats().dram_blocks * 65536);
    ASSERT_OK(store_->close(in_seconds(20), true));
    store_.reset();
  }
  EXPECT_GT(total, 100U);
}

TEST_F(StoreCrash, KilledWithFullTiersItServesOnlyRightBytes) {
  const auto with = options(2 * kSlab, 8 << 20);
  for (unsigned round = 0; round < 6; ++round) {
    crash(with, round, 200);
    open(with);
    const auto ns = store_->find_namespace("ns");
    ASSERT_NE(ns, nullptr);
    check_all(*ns, Tiers::kFull);
    ASSERT_OK(flush(*ns));
    EXPECT_EQ(store_->stats().nvme.used, ns->stats().nvme_blocks * 65536);
    ASSERT_OK(store_->close(in_seconds(20), true));
    store_.reset();
  }
}

#ifndef NDEBUG  // sync points
class StoreCrashAt : public StoreCrash, public testing::WithParamInterface<const char*> {};

// The moments between two steps that must not be torn apart, each met early, and later under load.
TEST_P(StoreCrashAt, ServesOnlyRightBytesAndAllThatWasFlushed) {
  const auto with = options(4 * kSlab, 256 << 20);
  unsigned round = 0;
  for (const int pass : {1, 4, 15}) {
    for (const bool memory_is_lost : {false, true}) {
      const auto kill_at_pass = [&] {
        SyncPoints::instance().set(GetParam(), [left = std::make_shared<std::atomic<int>>(pass)] {
          if (--*left == 0) ::raise(SIGKILL);
        });
      };
      const auto acknowledged = crash(with, ++round, kill_at_pass, std::chrono::seconds(60));
      ASSERT_TRUE(ended_by_itself_) << "it never came to pass " << pass;
      if (memory_is_lost) lose_memory();
      open(with);
      const auto ns = store_->find_namespace("ns");
      if (ns == nullptr) {
        ASSERT_TRUE(acknowledged.empty());
        store_.reset();
        continue;
      }
      SCOPED_TRACE("pass " + std::to_string(pass));
      ASSERT_NO_FATAL_FAILURE(check_promises(*ns, acknowledged));
      check_all(*ns);
      ASSERT_OK(flush(*ns));
      EXPECT_EQ(store_->stats().nvme.used, ns->stats().nvme_blocks * 65536);
      ASSERT_OK(store_->close(in_seconds(20), true));
      store_.reset();
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Points, StoreCrashAt,
                         testing::Values("journal:before_sync", "journal:before_commit",
                                         "journal:after_commit", "reservation:committed",
                                         "write_back:writing", "promoter:reading",
                                         "promoter:published"),
                         [](const auto& point) {
                           std::string name = point.param;
                           std::ranges::replace(name, ':', '_');
                           return name;
                         });
#endif

}  // namespace
}  // namespace kvfs::store
