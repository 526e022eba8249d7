// Plain directories whose unit is a directory: subdirectories leave as a whole.
#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <random>
#include <thread>
#include <vector>

#include "tests/fs/plain/plain_fixture.h"

namespace kvfs::plain {
namespace {

constexpr std::uint64_t kMib = 1 << 20;

class Subdirectories : public PlainFixture {
 protected:
  DirectoryPtr make_with_unit(const std::string& name) {
    DirectoryPtr top = make(name);
    EXPECT_TRUE(store_->set_unit(top, Unit::kDirectory));
    return top;
  }
  // A subdirectory of two files and a nested one with a third, 1 MiB each, last used then.
  void fill(const DirectoryPtr& top, const std::string& name, time_t used) {
    for (const auto& directory : {name, name + "/nested"})
      ASSERT_EQ(::mkdirat(store_->root(), (top->name() + "/" + directory).c_str(), 0755), 0);
    for (const auto* const file : {"/0", "/1", "/nested/2"}) {
      write(top, name + file, std::string(kMib, 'x'));
      set_accessed(top, name + file, used);
    }
  }
  void settle() {
    ASSERT_TRUE(until([&] { return store_->checksums_queued() == 0; }));
  }
  bool nothing_in_trash() {
    return std::filesystem::is_empty(directory_.file("plain") + "/leaving");
  }
};

TEST_F(Subdirectories, TheOldestGoAsAWhole) {
  reopen(16 * kMib);
  const auto top = make_with_unit("top");
  fill(top, "newest file, oldest directory made", 3000);
  fill(top, "oldest", 1000);
  fill(top, "a file of it was used", 900);
  set_accessed(top, "a file of it was used/nested/2", 2500);
  fill(top, "older", 2000);
  settle();
  write(top, "alone", std::string(4 * kMib, 'x'));  // 16 MiB: relieved down to 14
  store_->evictor().look();
  ASSERT_TRUE(until([&] { return top->bytes() <= 14 * kMib; }));
  EXPECT_FALSE(exists(top, "oldest"));
  for (const auto* const name : {"newest file, oldest directory made/nested/2", "alone",
                                 "a file of it was used/0", "older/1"})
    EXPECT_TRUE(exists(top, name)) << name;
  EXPECT_EQ(top->bytes(), 13 * kMib);
  EXPECT_EQ(top->files(), 10U);
  EXPECT_EQ(top->stats().evicted_files, 3U);
  EXPECT_EQ(top->stats().evicted_bytes, 3 * kMib);
  ASSERT_TRUE(until([&] { return nothing_in_trash(); }));
}

TEST_F(Subdirectories, NothingGoesOfOneInWhichAFileIsOpen) {
  reopen(8 * kMib);
  const auto top = make_with_unit("top");
  fill(top, "held", 1000);
  fill(top, "free", 2000);
  settle();
  const auto held = open_file(top, "held/nested/2", Access::kRead);
  write(top, "alone", std::string(2 * kMib, 'x'));
  store_->evictor().look();
  ASSERT_TRUE(until([&] { return top->bytes() <= 7 * kMib; }));
  EXPECT_FALSE(exists(top, "free"));
  for (const auto* const name : {"held/0", "held/1", "held/nested/2"})
    EXPECT_TRUE(exists(top, name)) << name;
}

TEST_F(Subdirectories, OneThatWasJustAskedForStays) {
  reopen(8 * kMib);
  const auto top = make_with_unit("top");
  fill(top, "asked for", 1000);
  fill(top, "not", 2000);
  settle();
  NodePtr node;
  {
    const SharedLock shared = store_->tree().shared();
    node = store_->tree().child(store_->tree().top(top), "asked for", true);
  }
  node->ask();
  write(top, "alone", std::string(2 * kMib, 'x'));
  store_->evictor().look();
  ASSERT_TRUE(until([&] { return top->bytes() <= 7 * kMib; }));
  EXPECT_TRUE(exists(top, "asked for/0"));
  EXPECT_FALSE(exists(top, "not"));
  EXPECT_EQ(gone_, 0) << "nobody knew it";
}

TEST_F(Subdirectories, WhoKnowsANameInItIsTold) {
  reopen(8 * kMib);
  const auto top = make_with_unit("top");
  fill(top, "known", 1000);
  settle();
  NodePtr directory, file;
  {
    const SharedLock shared = store_->tree().shared();
    Tree& tree = store_->tree();
    directory = tree.child(tree.top(top), "known", true);
    const NodePtr nested = tree.child(directory, "nested", true);
    file = tree.child(nested, "2", false);
  }
  write(top, "alone", std::string(5 * kMib, 'x'));
  store_->evictor().look();
  ASSERT_TRUE(until([&] { return gone_ == 3; }));
  EXPECT_TRUE(directory->gone && file->gone);
  fill(top, "known", 1000);
  const SharedLock shared = store_->tree().shared();
  EXPECT_NE(store_->tree().child(store_->tree().top(top), "known", true), directory);
}

TEST_F(Subdirectories, TheUnitIsKeptAndCanBeTakenBack) {
  EXPECT_EQ(make("plain")->unit(), Unit::kFile);
  make_with_unit("top");
  reopen(8 * kMib);
  const auto top = store_->find("top");
  EXPECT_EQ(store_->find("plain")->unit(), Unit::kFile);
  EXPECT_EQ(top->unit(), Unit::kDirectory);
  EXPECT_TRUE(store_->set_unit(top, Unit::kFile));
  fill(top, "directory", 1000);
  fill(top, "other", 2000);
  settle();
  set_accessed(top, "directory/1", 500);
  write(top, "alone", std::string(2 * kMib, 'x'));
  store_->evictor().look();
  ASSERT_TRUE(until([&] { return top->bytes() <= 7 * kMib; }));
  EXPECT_FALSE(exists(top, "directory/1"));
  EXPECT_TRUE(exists(top, "directory/0"));
  close();
  open();
  EXPECT_EQ(store_->find("top")->unit(), Unit::kFile);
}

TEST_F(Subdirectories, WithAFileThatIsNotWholeTheRestGoes) {
  const auto top = make_with_unit("top");
  fill(top, "whole", 1000);
  fill(top, "half", 1000);
  settle();
  stop();  // or this life's first scan may drop what only a later one can come to see
  {
    auto abandoned = open_file(top, "half/1", Access::kWrite);
    ASSERT_TRUE(abandoned);  // and never finished: as when the daemon ends under it
  }
  reopen(quota_);
  const auto found = store_->find("top");
  ASSERT_TRUE(until([&] { return found->stats().counted; }));
  EXPECT_FALSE(exists(found, "half"));
  EXPECT_TRUE(exists(found, "whole/nested/2"));
  EXPECT_EQ(found->stats().incomplete_files, 1U);
  EXPECT_EQ(found->files(), 3U);
  EXPECT_EQ(found->bytes(), 3 * kMib);
}

TEST_F(Subdirectories, WithAFileOfOtherBytesTheRestGoes) {
  const auto top = make_with_unit("top");
  fill(top, "good", 1000);
  fill(top, "bad", 1000);
  settle();
  spoil(top, "bad/0", 5000);
  const auto reads = open_file(top, "bad/1", Access::kRead);
  EXPECT_EQ(store_->verify(top).bad, std::vector<std::string>{"bad/0"});
  EXPECT_FALSE(exists(top, "bad"));
  EXPECT_TRUE(exists(top, "good/0"));
  char byte = 0;
  EXPECT_EQ(::pread((*reads)->fd(), &byte, 1, 0), 1) << "who reads the rest reads on";
  EXPECT_EQ(top->files(), 3U);
  EXPECT_EQ(top->bytes(), 3 * kMib);
}

TEST_F(Subdirectories, WhatWasLeavingAtACrashIsNotThereAfterwards) {
  const auto top = make_with_unit("top");
  fill(top, "leaving", 1000);
  settle();
  close();
  const auto plain = directory_.file("plain");
  std::filesystem::rename(plain + "/files/top/leaving", plain + "/leaving/17");
  std::filesystem::remove(plain + "/leaving/17/0");
  open();
  const auto found = store_->find("top");
  ASSERT_TRUE(until([&] { return found->stats().counted; }));
  EXPECT_EQ(found->files(), 0U);
  EXPECT_TRUE(nothing_in_trash());
}

// What a reader finds of a subdirectory it finds all of, also under others who write and evict.
TEST_F(Subdirectories, ReadersFindAllOfOneOrNone) {
  reopen(12 * kMib);
  const auto top = make_with_unit("top");
  constexpr unsigned kFiles = 4;
  std::atomic<unsigned> found{0}, half{0};
  // As the mount does for whoever asks whether a directory is there.
  const auto is_there = [&](const std::string& name) {
    const SharedLock shared = store_->tree().shared();
    if (!exists(top, name)) return NodePtr();
    NodePtr node = store_->tree().child(store_->tree().top(top), name, true);
    node->ask();
    return node;
  };
  // Whoever has one file of it open has all of them.
  const auto load = [&](const std::string& name) {
    const auto first = open_file(top, name + "/held", Access::kRead);
    if (!first) return;  // it went since, where this thread had to wait long
    for (unsigned file = 0; file < kFiles; ++file) {
      auto opened = open_file(top, name + "/" + std::to_string(file), Access::kRead);
      if (!opened) {
        ++half;
        return;
      }
      (*opened)->touch();
    }
    ++found;
  };
  const auto make_it = [&](const std::string& name) {
    ASSERT_EQ(::mkdirat(store_->root(), ("top/" + name).c_str(), 0755), 0);
    const NodePtr node = is_there(name);
    auto held = open_file(top, name + "/held", Access::kWrite, O_CREAT | O_EXCL);
    ASSERT_TRUE(held);
    top->add(0, 1);
    for (unsigned file = 0; file < kFiles; ++file) {
      ASSERT_TRUE(store_->evictor().wait_for_room(
          *top, 4096, std::chrono::steady_clock::now() + std::chrono::seconds(10)));
      store_->evictor().watch_writers();
      write(top, name + "/" + std::to_string(file), std::string(kMib / 4, 'x'));
    }
    held->finish();
  };
  const auto work = [&](unsigned seed) {
    std::mt19937 random(seed);
    for (int turn = 0; turn < 150; ++turn) {
      const std::string name = std::to_string(seed) + "-" + std::to_string(random() % 12);
      if (const NodePtr node = is_there(name))
        load(name);
      else
        make_it(name);
    }
  };
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 3; ++seed) threads.emplace_back(work, seed);
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(half, 0U);
  EXPECT_GT(found, 50U);
  EXPECT_GT(top->stats().evicted_files, 50U);
  EXPECT_EQ(top->stats().evicted_files % (kFiles + 1), 0U);
}

}  // namespace
}  // namespace kvfs::plain
