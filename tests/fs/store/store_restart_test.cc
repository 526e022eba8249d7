#include <lmdb.h>
#include <spdlog/spdlog.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <random>
#include <thread>

#include "tests/fs/store/store_fixture.h"

namespace kvfs::store {
namespace {

TEST_F(StoreTest, WhatIsOnNvmeIsThereAfterARestart) {
  const auto with = options(4 * kSlab, 64 << 20);
  open(with);
  const auto first = space("first");
  auto other = small_geometry("other");
  const auto second = space("second", other);
  for (std::uint32_t i = 0; i < 6; ++i) {
    ASSERT_OK(put(*first, prompt(i, 3 + i)));
    ASSERT_OK(put(*second, prompt(i, 2)));
  }
  const Key pinned = keys_of(small_geometry(), prompt(3, 6)).back();
  ASSERT_OK(first->set_pinned(pinned, true));
  ASSERT_OK(first->set_label(pinned, "kept"));
  ASSERT_OK(first->add_name("system", pinned, false));
  ASSERT_OK(first->set_ownership({.uid = 7, .gid = 8, .mode = 0750}));
  ASSERT_OK(first->evict(keys_of(small_geometry(), prompt(0, 3)).back()));
  const std::uint32_t id = first->id();
  const std::string store_id = store_->id();
  ASSERT_OK(store_->close(in_seconds(20), false));
  open(with);
  EXPECT_EQ(store_->id(), store_id);
  ASSERT_EQ(store_->namespaces().size(), 2U);
  const auto again = store_->find_namespace("first");
  ASSERT_NE(again, nullptr);
  EXPECT_EQ(again->id(), id);
  EXPECT_EQ(again->ownership().mode, 0750U);
  EXPECT_EQ(again->stats().dram_blocks, 0U);
  EXPECT_FALSE(cached(*again, prompt(0, 3)));
  for (std::uint32_t i = 1; i < 6; ++i) EXPECT_OK(check_prefix(*again, prompt(i, 3 + i)));
  for (std::uint32_t i = 0; i < 6; ++i) {
    EXPECT_OK(check_prefix(*store_->find_namespace("second"), prompt(i, 2)));
  }
  EXPECT_EQ(again->name("system"), pinned);
  EXPECT_EQ(again->find(pinned)->label, "kept");
  EXPECT_TRUE(again->find(pinned)->pinned);
  EXPECT_EQ(again->evict(pinned)->blocks, 0U);
  ASSERT_OK(again->set_pinned(pinned, false));
  EXPECT_EQ(again->evict(pinned)->blocks, 6U);
}

TEST_F(StoreTest, DramIsThereAfterARestartThatKeepsIt) {
  const auto with = options(4 * kSlab, 64 << 20);
  open(with);
  const auto ns = space();
  for (std::uint32_t i = 0; i < 6; ++i) ASSERT_OK(put(*ns, prompt(i, 8)));
  ASSERT_OK(store_->close(in_seconds(20), true));
  open(with);
  const auto again = store_->find_namespace("ns");
  EXPECT_EQ(again->stats().dram_blocks, 48U);
  EXPECT_EQ(again->stats().nvme_blocks, 48U);
  for (std::uint32_t i = 0; i < 6; ++i) EXPECT_OK(check_prefix(*again, prompt(i, 8)));
  EXPECT_EQ(again->stats().promoted_bytes, 0U);
  // Both tiers go on working.
  for (std::uint32_t i = 10; i < 40; ++i) ASSERT_OK(put(*again, prompt(i, 8)));
  ASSERT_OK(flush(*again));
  EXPECT_OK(check_prefix(*again, prompt(0, 8)));
}

TEST_F(StoreTest, ADramOnlyStoreKeepsItsDram) {
  auto with = options(4 * kSlab);
  with.state_directory.clear();
  open(with);
  const auto ns = space();
  for (std::uint32_t i = 0; i < 6; ++i) ASSERT_OK(put(*ns, prompt(i, 8)));
  ASSERT_OK(store_->close(in_seconds(20), true));
  open(with);
  for (std::uint32_t i = 0; i < 6; ++i) {
    EXPECT_OK(check_prefix(*store_->find_namespace("ns"), prompt(i, 8)));
  }
  ASSERT_OK(store_->close(in_seconds(20), false));
  open(with);
  EXPECT_EQ(store_->find_namespace("ns")->stats().blocks, 0U);
  EXPECT_EQ(store_->stats().dram.used, 0U);
}

// Blocks that were dirty when DRAM was kept are written back by the next daemon.
TEST_F(StoreTest, DirtyBlocksSurviveInDramAndAreWrittenBackThen) {
  const auto with = options(4 * kSlab, 64 << 20);
  open_with_faults(with);
  const auto ns = space();
  faults().no_space(true);
  ASSERT_OK(put(*ns, prompt(1, 8)));
  EXPECT_FALSE(store_->close(Clock::now() + std::chrono::milliseconds(300), true).has_value());
  open(with);
  const auto again = store_->find_namespace("ns");
  ASSERT_OK(flush(*again));
  EXPECT_EQ(again->stats().nvme_blocks, 8U);
  ASSERT_OK(store_->close(in_seconds(20), false));
  open(with);
  EXPECT_OK(check_prefix(*store_->find_namespace("ns"), prompt(1, 8)));
}

TEST_F(StoreTest, RemovedNamespacesStayRemoved) {
  const auto with = options(4 * kSlab, 64 << 20);
  open(with);
  const auto ns = space();
  ASSERT_OK(put(*ns, prompt(1, 8)));
  ASSERT_OK(flush(*ns));
  ASSERT_OK(store_->remove_namespace("ns", false));
  open(with);
  EXPECT_TRUE(store_->namespaces().empty());
  EXPECT_EQ(store_->stats().nvme.used, 0U);
  EXPECT_EQ(store_->stats().dram.used, 0U);
}

TEST_F(StoreTest, ASecondDaemonIsRefused) {
  const auto with = options(4 * kSlab, 64 << 20);
  open(with);
  const auto second = Store::open(with, nullptr);
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, Code::kBusy);
}

TEST_F(StoreTest, AStoreWithBlocksOnNvmeIsNotOpenedWithoutNvme) {
  open(options(4 * kSlab, 64 << 20));
  ASSERT_OK(put(*space(), prompt(1, 2)));
  store_.reset();
  const auto without = Store::open(options(4 * kSlab), nullptr);
  ASSERT_FALSE(without.has_value());
  EXPECT_EQ(without.error().code, Code::kInvalid);
  open(options(4 * kSlab, 64 << 20));
  EXPECT_OK(check_prefix(*store_->find_namespace("ns"), prompt(1, 2)));
}

// As LMDB's own tool would change it.
void set_journal_format(const std::string& directory, const char* format) {
  MDB_env* env = nullptr;
  MDB_txn* txn = nullptr;
  MDB_dbi meta = 0;
  ASSERT_EQ(mdb_env_create(&env), 0);
  ASSERT_EQ(mdb_env_set_maxdbs(env, 8), 0);
  ASSERT_EQ(mdb_env_open(env, directory.c_str(), 0, 0600), 0);
  ASSERT_EQ(mdb_txn_begin(env, nullptr, 0, &txn), 0);
  ASSERT_EQ(mdb_dbi_open(txn, "meta", 0, &meta), 0);
  std::string name = "format";
  std::string text = format;
  MDB_val key{name.size(), name.data()};
  MDB_val value{text.size(), text.data()};
  ASSERT_EQ(mdb_put(txn, meta, &key, &value, 0), 0);
  ASSERT_EQ(mdb_txn_commit(txn), 0);
  mdb_env_close(env);
}

TEST_F(StoreTest, AJournalOfAnotherVersionIsRefusedAndLeftAlone) {
  const auto with = options(4 * kSlab, 64 << 20);
  open(with);
  ASSERT_OK(put(*space(), prompt(1, 2)));
  ASSERT_OK(store_->close(in_seconds(20), false));
  store_.reset();
  const std::string journal = disk_.file("state") + "/journal";
  set_journal_format(journal, "99");
  const auto newer = Store::open(with, nullptr);
  ASSERT_FALSE(newer.has_value());
  EXPECT_EQ(newer.error().code, Code::kMismatch);
  EXPECT_NE(newer.error().message.find("99"), std::string::npos);
  set_journal_format(journal, "1");
  open(with);
  EXPECT_OK(check_prefix(*store_->find_namespace("ns"), prompt(1, 2)));
}

// -- crash
// -------------------------------------------------------------------------------------------

// What the child tells: a prompt's number and length are in the file before it goes on.
struct Acknowledged {
  std::uint32_t seed;
  std::uint32_t blocks;
};

// Stores, evicts, loads and flushes until it is killed.
[[noreturn]] void load_until_killed(const StoreOptions& options, int report, unsigned round) {
  spdlog::set_level(spdlog::level::off);
  auto store = Store::open(options, nullptr);
  if (!store) ::_exit(3);
  const auto ns = (*store)->create_namespace("ns", small_geometry(), {})->first;
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
  // Runs the load in a child and kills it after `ms`; what it acknowledged.
  std::vector<Acknowledged> crash(const StoreOptions& with, unsigned round, int ms) {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      ::close(ends[0]);
      load_until_killed(with, ends[1], round);
    }
    ::close(ends[1]);
    std::this_thread::sleep_for(std::chrono::milliseconds(ms));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status)) << "the child ended by itself with " << WEXITSTATUS(status);
    std::vector<Acknowledged> acknowledged;
    Acknowledged one{};
    while (::read(ends[0], &one, sizeof one) == sizeof one) acknowledged.push_back(one);
    ::close(ends[0]);
    return acknowledged;
  }
  // Everything that is cached has the right bytes.
  void check_all(Namespace& ns) {
    for (std::uint32_t seed = 0; seed < 40; ++seed) {
      const auto tokens = prompt(seed, 10);
      const std::uint32_t length = ns.match(keys_of(ns.geometry(), tokens));
      if (length == 0) continue;
      ASSERT_OK(check_prefix(ns, std::span(tokens).first(length * 8)));
    }
    const auto verified = ns.verify(0, 1 << 20);
    ASSERT_OK(verified);
    EXPECT_TRUE(verified->bad.empty());
    EXPECT_EQ(verified->checked, ns.stats().blocks);
  }
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
    const bool without_dram = round % 2 == 1;
    if (without_dram) {
      // As after a power cut: memory is gone, too.
      std::filesystem::remove_all(memory_.file("slabs"));
      std::filesystem::remove_all(memory_.file("run"));
    }
    open(with);
    const auto ns = store_->find_namespace("ns");
    ASSERT_NE(ns, nullptr);
    for (const Acknowledged& what : acknowledged) {
      if (what.blocks == 1) continue;  // may have been evicted since
      ASSERT_TRUE(cached(*ns, prompt(what.seed, what.blocks)))
          << "round " << round << ": flushed, but gone: " << what.seed << " of " << what.blocks;
    }
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
    check_all(*ns);
    ASSERT_OK(flush(*ns));
    EXPECT_EQ(store_->stats().nvme.used, ns->stats().nvme_blocks * 65536);
    ASSERT_OK(store_->close(in_seconds(20), true));
    store_.reset();
  }
}

}  // namespace
}  // namespace kvfs::store
