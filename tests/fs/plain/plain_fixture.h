// A plain store in a directory of the test's own, used as the mount uses it.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>

#include "fs/plain/plain_store.h"
#include "tests/support/temp_directory.h"

namespace kvfs::plain {

class PlainFixture : public testing::Test, public PlainListener {
 public:
  void on_gone(const NodePtr& node) override {
    EXPECT_TRUE(node->gone);
    ++gone_;
  }

 protected:
  // /var/tmp is on a disk, which has extended attributes where a tmpfs may not.
  void SetUp() override { open(); }
  void TearDown() override { close(); }

  void open() {
    open_only();
    store_->start(*this);
  }
  // Nothing runs before start().
  void open_only() {
    close();
    auto opened = PlainStore::open({directory_.file("plain"), quota_});
    ASSERT_TRUE(opened) << opened.error().message;
    store_ = std::move(*opened);
  }
  void stop() { store_->stop(std::chrono::steady_clock::now() + std::chrono::seconds(5)); }
  void close() {
    if (store_ != nullptr) stop();
    store_.reset();
  }
  void reopen(std::uint64_t quota) {
    close();
    quota_ = quota;
    open();
  }
  DirectoryPtr make(const std::string& name) {
    EXPECT_TRUE(store_->make(name, 0755, ::geteuid(), ::getegid()));
    return store_->find(name);
  }

  OsResult<Opened> open_file(const DirectoryPtr& top, const std::string& name, Access access,
                             int flags = 0) {
    const SharedLock shared = store_->tree().shared();
    return store_->place(top->name() + "/" + name).and_then([&](const Place& place) {
      return store_->files().open(place, access, top, flags, 0644);
    });
  }
  // As a create, writes and a close.
  void write(const DirectoryPtr& top, const std::string& name, const std::string& bytes) {
    auto file = [&] {
      const SharedLock shared = store_->tree().shared();
      const auto place = store_->place(top->name() + "/" + name);
      auto made = store_->files().open(place.value(), Access::kWrite, top, O_CREAT | O_EXCL, 0644);
      if (made) top->add(0, 1);
      return made;
    }();
    ASSERT_TRUE(file) << file.error();
    ASSERT_EQ(::pwrite((*file)->fd(), bytes.data(), bytes.size(), 0),
              static_cast<ssize_t>(bytes.size()));
    file->finish();
  }
  bool exists(const DirectoryPtr& top, const std::string& name) {
    struct stat status {};
    return ::fstatat(store_->root(), (top->name() + "/" + name).c_str(), &status, 0) == 0;
  }
  void set_accessed(const DirectoryPtr& top, const std::string& name, time_t seconds) {
    const timespec times[2] = {{seconds, 0}, {0, UTIME_OMIT}};
    ASSERT_EQ(::utimensat(store_->root(), (top->name() + "/" + name).c_str(), times, 0), 0);
  }
  // Another byte at `offset`, which nothing but the checksum tells of.
  void spoil(const DirectoryPtr& top, const std::string& name, off_t offset) {
    const UniqueFd fd(
        ::openat(store_->root(), (top->name() + "/" + name).c_str(), O_RDWR | O_CLOEXEC));
    struct stat before {};
    ASSERT_EQ(::fstat(fd.get(), &before), 0);
    ASSERT_EQ(::pwrite(fd.get(), "y", 1, offset), 1);
    const timespec times[2] = {before.st_atim, before.st_mtim};
    ASSERT_EQ(::futimens(fd.get(), times), 0);
  }
  template <typename Condition>
  bool until(Condition condition) {
    for (int tries = 0; tries < 2000; ++tries) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return false;
  }

  std::uint64_t quota_ = 64 << 20;
  std::atomic<int> gone_{0};
  test::TempDirectory directory_{"/var/tmp"};
  std::unique_ptr<PlainStore> store_;
};

}  // namespace kvfs::plain
