#include "fs/plain/plain_store.h"

#include <sys/xattr.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <vector>

#include "tests/fs/plain/plain_fixture.h"

namespace kvfs::plain {
namespace {

class PlainStoreTest : public PlainFixture {};

constexpr std::uint64_t kMib = 1 << 20;

Record::State state_of(const OpenFile& file) { return read_record(file.fd())->state; }

TEST_F(PlainStoreTest, AFileIsRecordedWhenItsLastWriterCloses) {
  const auto top = make("top");
  auto first = open_file(top, "file", Access::kWrite, O_CREAT | O_EXCL);
  auto second = open_file(top, "file", Access::kWrite);
  ASSERT_TRUE(first && second);
  ASSERT_EQ(first->file(), second->file()) << "one object a file";
  first->finish();
  EXPECT_FALSE(read_record((*second)->fd())) << "somebody still writes";
  second->finish();
  ASSERT_TRUE(until([&] { return state_of(**second) == Record::State::kSummed; }));
  EXPECT_EQ((*second)->trust(), OpenFile::Trust::kWhole);
  auto again = open_file(top, "file", Access::kWrite);
  EXPECT_FALSE(read_record((*again)->fd()));
  again->finish();
}

TEST_F(PlainStoreTest, AWriterWhoDiesLeavesNothing) {
  const auto top = make("top");
  write(top, "whole", "bytes");
  stop();  // or this life's first scan may drop what only a later one can come to see
  {
    auto abandoned = open_file(top, "file", Access::kWrite, O_CREAT | O_EXCL);
    ASSERT_TRUE(abandoned);  // and never finished: as when the daemon ends under it
  }
  reopen(quota_);
  const auto found = store_->find("top");
  ASSERT_NE(found, nullptr);
  ASSERT_TRUE(until([&] { return found->stats().counted; }));
  EXPECT_FALSE(exists(found, "file"));
  EXPECT_TRUE(exists(found, "whole"));
  EXPECT_EQ(found->stats().incomplete_files, 1U);
  EXPECT_EQ(found->bytes(), 4096U);
  EXPECT_EQ(found->files(), 1U);
}

TEST_F(PlainStoreTest, WhatAnEarlierLifeRecordedIsComparedOnce) {
  write(make("top"), "file", std::string(100000, 'x'));
  reopen(quota_);
  const auto top = store_->find("top");
  auto file = open_file(top, "file", Access::kRead);
  ASSERT_TRUE(file);
  EXPECT_EQ((*file)->trust(), OpenFile::Trust::kReadFirst);
  EXPECT_EQ((*file)->read_and_compare(), OpenFile::Comparison::kSame);
  EXPECT_EQ((*file)->trust(), OpenFile::Trust::kWhole);
}

TEST_F(PlainStoreTest, WhatReadsMuchEndsWhenTheDaemonIsTo) {
  write(make("top"), "file", std::string(100000, 'x'));
  reopen(quota_);
  const auto top = store_->find("top");
  const std::atomic<bool> stopping{true};
  EXPECT_EQ(store_->verify(top, stopping).files, 0U);
  auto file = open_file(top, "file", Access::kRead);
  ASSERT_TRUE(file);
  EXPECT_EQ((*file)->read_and_compare(stopping), OpenFile::Comparison::kUnread);
  EXPECT_EQ((*file)->trust(), OpenFile::Trust::kReadFirst);
}

TEST_F(PlainStoreTest, WhatTheDaemonComparesIsNotInUse) {
  write(make("top"), "file", std::string(100000, 'x'));
  reopen(quota_);
  const auto top = store_->find("top");
  spoil(top, "file", 50000);
  {
    const auto user = open_file(top, "file", Access::kRead);
    ASSERT_TRUE(user);
    EXPECT_EQ(store_->verify(top).kept, std::vector<std::string>{"file"});
  }
  const auto daemon = open_file(top, "file", Access::kVerify);  // another verify
  ASSERT_TRUE(daemon);
  const auto verified = store_->verify(top);
  EXPECT_EQ(verified.bad, std::vector<std::string>{"file"});
  EXPECT_TRUE(verified.kept.empty());
}

TEST_F(PlainStoreTest, OtherBytesWithTheSameTimesAreFound) {
  write(make("top"), "file", std::string(100000, 'x'));
  reopen(quota_);
  const auto top = store_->find("top");
  spoil(top, "file", 50000);
  auto file = open_file(top, "file", Access::kRead);
  EXPECT_EQ((*file)->read_and_compare(), OpenFile::Comparison::kOther);
}

TEST_F(PlainStoreTest, AnotherBootTrustsOnlyWhatReachedTheDisk) {
  const auto top = make("top");
  const auto boot_before = [&](const std::string& name, Record::State state, bool changed) {
    write(top, name, "bytes");
    auto file = open_file(top, name, Access::kRead);
    EXPECT_TRUE(until([&] { return state_of(**file) == Record::State::kSummed; }));
    Record record = *read_record((*file)->fd());
    record.state = state;
    record.boot ^= 1;
    record.life ^= 1;
    if (changed) record.modified -= 1;
    EXPECT_EQ(write_record((*file)->fd(), record), 0);
    return (*file)->read_and_compare();
  };
  using Comparison = OpenFile::Comparison;
  EXPECT_EQ(boot_before("closed", Record::State::kClosed, false), Comparison::kOther);
  EXPECT_EQ(boot_before("synced", Record::State::kSynced, false), Comparison::kNoChecksum);
  EXPECT_EQ(boot_before("synced then written", Record::State::kSynced, true), Comparison::kOther);
  EXPECT_EQ(boot_before("summed", Record::State::kSummed, false), Comparison::kSame);
  EXPECT_EQ(boot_before("summed then written", Record::State::kSummed, true), Comparison::kOther);
}

// Of a store that was not started: nothing has a checksum.
TEST_F(PlainStoreTest, WhatWaitsForItsChecksumAtTheEndIsSynced) {
  open_only();
  const auto top = make("top");
  for (const auto* const name : {"one", "two"}) write(top, name, "bytes");
  const auto two = open_file(top, "two", Access::kRead);
  ASSERT_EQ(state_of(**two), Record::State::kClosed);
  auto again = open_file(top, "one", Access::kWrite);
  store_->stop(std::chrono::steady_clock::now());
  EXPECT_EQ(state_of(**two), Record::State::kSynced);
  EXPECT_FALSE(read_record((*again)->fd())) << "it is being written";
  EXPECT_EQ((*two)->trust(), OpenFile::Trust::kWhole);
}

TEST_F(PlainStoreTest, SoIsTheOneWhoseChecksumIsBeingComputed) {
  quota_ = std::uint64_t{1} << 40;
  open_only();
  const auto top = make("top");
  write(top, "little", "bytes");
  auto file = open_file(top, "takes long", Access::kWrite, O_CREAT | O_EXCL);
  ASSERT_EQ(::ftruncate((*file)->fd(), off_t{1} << 38), 0);
  file->finish();
  ASSERT_EQ(store_->checksums_queued(), 2U);
  store_->start(*this);
  ASSERT_TRUE(until([&] { return store_->checksums_queued() == 1; }));
  store_->stop(std::chrono::steady_clock::now());
  EXPECT_EQ(state_of(**file), Record::State::kSynced);
}

TEST_F(PlainStoreTest, FsyncAfterTheCloseIsRecorded) {
  open_only();
  const auto top = make("top");
  write(top, "file", "bytes");
  auto file = open_file(top, "file", Access::kRead);
  const Record closed = *read_record((*file)->fd());
  const auto state_after_sync = [&](Record record) {
    EXPECT_EQ(write_record((*file)->fd(), record), 0);
    EXPECT_EQ((*file)->sync(), 0);
    return state_of(**file);
  };
  EXPECT_EQ(state_after_sync(closed), Record::State::kSynced);
  Record other = closed;
  other.state = Record::State::kSummed;
  EXPECT_EQ(state_after_sync(other), Record::State::kSummed);
  other = closed;
  other.boot ^= 1;
  EXPECT_EQ(state_after_sync(other), Record::State::kClosed) << "nobody knows what is there";
  other = closed;
  other.modified -= 1;
  EXPECT_EQ(state_after_sync(other), Record::State::kClosed);
}

// A store that has not counted yet.
class Uncounted : public PlainFixture {
 protected:
  static constexpr std::uint64_t kQuota = 16 * kMib;
  void SetUp() override {
    quota_ = kQuota;
    PlainFixture::SetUp();
    write(make("top"), "file", std::string(12 * kMib, 'x'));
  }
  DirectoryPtr open_only() {
    PlainFixture::open_only();
    return store_->find("top");
  }
  std::string attribute() const { return directory_.file("plain") + "/files/top"; }
  std::string kept() const {
    char text[32];
    const ssize_t bytes = ::getxattr(attribute().c_str(), kBytesAttribute, text, sizeof(text));
    return {text, static_cast<std::size_t>(std::max<ssize_t>(0, bytes))};
  }
  void expect_right_when_counted(const DirectoryPtr& top) {
    store_->start(*this);
    ASSERT_TRUE(until([&] { return top->exact(); }));
    EXPECT_EQ(top->bytes(), 12 * kMib);
    EXPECT_EQ(store_->evictor().bytes(), 12 * kMib);
  }
};

TEST_F(Uncounted, HasWhatItHadAtTheEnd) {
  const auto top = open_only();
  EXPECT_EQ(top->bytes(), 12 * kMib);
  EXPECT_FALSE(top->stats().counted);
  EXPECT_TRUE(store_->evictor().has_room(*top, 4 * kMib));
  EXPECT_FALSE(store_->evictor().has_room(*top, 5 * kMib));
  expect_right_when_counted(top);
}

TEST_F(Uncounted, OfWhichNothingIsKnownIsNearlyFull) {
  close();
  ASSERT_EQ(::removexattr(attribute().c_str(), kBytesAttribute), 0);
  const auto top = open_only();
  EXPECT_TRUE(store_->evictor().has_room(*top, kQuota / 16));
  EXPECT_FALSE(store_->evictor().has_room(*top, kQuota / 8));
  expect_right_when_counted(top);
}

TEST_F(Uncounted, SeveralOfWhichNothingIsKnownAreTogetherNearlyFull) {
  make("other");
  make("third");
  close();
  for (const auto* const name : {"top", "other", "third"})
    ASSERT_EQ(::removexattr((attribute() + "/../" + name).c_str(), kBytesAttribute), 0);
  const auto top = open_only();
  EXPECT_EQ(store_->evictor().bytes(), high_mark(kQuota));
  EXPECT_TRUE(store_->evictor().has_room(*top, kQuota / 16));
  EXPECT_TRUE(store_->evictor().has_room(*store_->find("other"), kQuota / 16));
  expect_right_when_counted(top);
}

TEST_F(Uncounted, OneThatWasJustMadeIsKnownToBeEmpty) {
  PlainFixture::open_only();
  EXPECT_EQ(make("new")->kept(), 0U);
}

TEST_F(Uncounted, AfterACrashHasNearlyWhatItHad) {
  store_->evictor().watch_writers();
  ASSERT_TRUE(until([&] { return kept() == std::to_string(12 * kMib); }));
  const auto top = store_->find("top");
  write(top, "little", std::string(100, 'x'));
  write(top, "more", std::string(kMib, 'x'));
  store_->evictor().watch_writers();
  EXPECT_TRUE(until([&] { return kept() == std::to_string(13 * kMib + 4096); }));
}

TEST(Directory, AScanThatWasDisturbedTakesThePlaceOfWhatWasAssumed) {
  Directory directory(1, "top");
  directory.assume(1000);
  const std::uint64_t before = directory.changes();
  directory.add(10, 1);
  ASSERT_FALSE(directory.set_usage(500, 5, before));
  directory.add_found(500, 5, true);
  EXPECT_EQ(directory.bytes(), 510U);
  EXPECT_EQ(directory.files(), 6U);
}

TEST(Directory, AScanThatDidNotSeeAllFindsNoLessThanWhatWasAssumed) {
  Directory less(1, "less");
  less.assume(1000);
  less.add_found(500, 5, false);
  EXPECT_EQ(less.bytes(), 1000U);
  EXPECT_FALSE(less.stats().counted);
  Directory more(2, "more");
  more.assume(1000);
  more.add_found(1500, 15, false);
  EXPECT_EQ(more.bytes(), 1500U);
}

TEST_F(PlainStoreTest, TheOldestGoFirstAndNothingThatIsOpen) {
  reopen(8 * kMib);
  const auto top = make("top");
  for (int number = 0; number < 6; ++number) {
    write(top, std::to_string(number), std::string(kMib, 'x'));
    set_accessed(top, std::to_string(number), 1000 - number);  // the last made is the oldest
  }
  ASSERT_TRUE(until([&] { return store_->checksums_queued() == 0; }));
  const auto held = open_file(top, "5", Access::kRead);
  write(top, "6", std::string(2 * kMib, 'x'));
  store_->evictor().look();
  ASSERT_TRUE(until([&] { return top->bytes() <= 7 * kMib; }));
  EXPECT_TRUE(exists(top, "5")) << "it is open";
  EXPECT_FALSE(exists(top, "4"));
  EXPECT_TRUE(exists(top, "0"));
  EXPECT_EQ(top->stats().evicted_files, 1U);
}

TEST_F(PlainStoreTest, WaitingForRoomEndsWhenThereIsSomeOrAtTheDeadline) {
  reopen(8 * kMib);
  const auto top = make("top");
  write(top, "file", std::string(8 * kMib, 'x'));
  auto held = open_file(top, "file", Access::kRead);
  const auto soon = [] {
    return std::chrono::steady_clock::now() + std::chrono::milliseconds(200);
  };
  EXPECT_FALSE(store_->evictor().wait_for_room(*top, 4096, soon()));
  std::thread closes([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    held = OsResult<Opened>(Opened());
  });
  EXPECT_TRUE(store_->evictor().wait_for_room(
      *top, 4096, std::chrono::steady_clock::now() + std::chrono::seconds(10)));
  closes.join();
}

TEST_F(PlainStoreTest, ARenameDisturbsACount) {
  const auto top = make("top");
  const std::uint64_t before = top->changes();
  ASSERT_TRUE(store_->rename("top", "renamed"));
  EXPECT_FALSE(top->set_usage(0, 0, before));
}

TEST_F(PlainStoreTest, AnotherStoreCannotHaveTheDirectory) {
  const auto second = PlainStore::open({directory_.file("plain"), quota_});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Code::kBusy);
}

// What a mount does, from many threads: for the thread sanitizer, and for the counts at the end.
TEST_F(PlainStoreTest, ThreadsCreateRenameRemoveReadAndAreEvicted) {
  reopen(4 * kMib);
  const auto top = make("top");
  std::atomic<int> wrong{0};
  const auto work = [&](unsigned seed) {
    std::mt19937 random(seed);
    const std::string mine = "t" + std::to_string(seed) + "-";
    Tree& tree = store_->tree();
    for (int turn = 0; turn < 400; ++turn) {
      const std::string name = mine + std::to_string(random() % 12);
      const std::string temporary = mine + "new";
      switch (random() % 4) {
        case 0:
        case 1: {
          if (!store_->evictor().wait_for_room(
                  *top, 4096, std::chrono::steady_clock::now() + std::chrono::seconds(10))) {
            ++wrong;
            break;
          }
          store_->evictor().watch_writers();
          write(top, temporary, std::string(192 << 10, static_cast<char>('a' + seed)));
          const ExclusiveLock exclusive = tree.exclusive();
          const NodePtr root = tree.top(top);
          const NodePtr moved = tree.child(root, temporary, false);
          const Leaving leaving = store_->leaving(top, *store_->place("top/" + name));
          // It may have been evicted already.
          if (::renameat(store_->root(), ("top/" + temporary).c_str(), store_->root(),
                         ("top/" + name).c_str()) != 0)
            break;
          leaving.gone();
          tree.rename(root, temporary, root, name);
          break;
        }
        case 2: {
          const SharedLock shared = tree.shared();
          const Leaving leaving = store_->leaving(top, *store_->place("top/" + name));
          if (::unlinkat(store_->root(), ("top/" + name).c_str(), 0) == 0) leaving.gone();
          break;
        }
        default: {
          auto file = open_file(top, name, Access::kRead);
          if (!file) break;
          char byte = 0;
          const ssize_t got = ::pread((*file)->fd(), &byte, 1, 1000);
          if (got != 1 || byte != static_cast<char>('a' + seed)) ++wrong;
          if ((*file)->trust() != OpenFile::Trust::kWhole) ++wrong;
          (*file)->touch();
        }
      }
    }
  };
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 4; ++seed) threads.emplace_back(work, seed);
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(top->stats().evicted_files, 10U);
  ASSERT_TRUE(until([&] { return store_->checksums_queued() == 0; }));
  std::uint64_t bytes = 0;
  std::uint64_t files = 0;
  const std::atomic<bool> never{false};
  ASSERT_TRUE(until([&] { return top->bytes() <= 4 * kMib; }));
  ASSERT_TRUE(scan(store_->root(), "top", never, [&](const FoundFile& file) {
    bytes += counted_bytes(static_cast<std::uint64_t>(file.status.st_size));
    ++files;
  }));
  EXPECT_EQ(top->bytes(), bytes);
  EXPECT_EQ(top->files(), files);
  EXPECT_EQ(store_->verify(top).bad.size(), 0U);
}

}  // namespace
}  // namespace kvfs::plain
