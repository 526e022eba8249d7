#include <lmdb.h>

#include "fs/store/namespace_impl.h"
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

TEST_F(StoreTest, ALabelGoesWithABlockThatIsLost) {
  const auto with = options(4 * kSlab);
  open(with);
  const auto tokens = prompt(1, 2);
  const Key key = keys_of(small_geometry(), tokens).back();
  {
    const auto ns = space();
    ASSERT_OK(put(*ns, tokens));
    ASSERT_OK(ns->set_label(key, "of what was there"));
  }
  ASSERT_OK(store_->close(in_seconds(20), false));
  for (int restart = 0; restart < 2; ++restart) {
    open(with);
    const auto ns = store_->find_namespace("ns");
    ASSERT_FALSE(cached(*ns, tokens));
    ASSERT_OK(put(*ns, tokens));
    EXPECT_EQ(ns->find(key)->label, "");
    ASSERT_OK(store_->close(in_seconds(20), false));
  }
}

// Of a daemon that let it be made, or of a damaged journal. It stays there, for that daemon.
TEST_F(StoreTest, ANameThatCannotBeIsNotShown) {
  const auto with = options(4 * kSlab, 64 << 20);
  open(with);
  const auto ns = space();
  const auto tokens = prompt(1, 2);
  const Key key = keys_of(small_geometry(), tokens).back();
  ASSERT_OK(put(*ns, tokens));
  ASSERT_OK(ns->add_name("good", key, false));
  ASSERT_OK(static_cast<NamespaceImpl&>(*ns).state()->services.journal->commit(
      {{JournalTable::kNames, name_key(ns->id(), "two\nlines"),
        std::string(reinterpret_cast<const char*>(&key), sizeof key)}}));
  for (int restart = 0; restart < 2; ++restart) {
    ASSERT_OK(store_->close(in_seconds(20), false));
    open(with);
    EXPECT_EQ(store_->find_namespace("ns")->names_of(key), std::vector<std::string>{"good"});
  }
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
  ASSERT_OK(store_->remove_namespace("ns", RemoveIf::kNothingIsPinned));
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

}  // namespace
}  // namespace kvfs::store
