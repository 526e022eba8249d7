// A user of a plain directory swaps directories for symlinks to anywhere: nothing outside is
// listed, opened or removed, whatever the moment.
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <vector>

#include "tests/fs/plain/plain_fixture.h"

namespace kvfs::plain {
namespace {

namespace fs = std::filesystem;

class Symlinks : public PlainFixture {
 public:
  void on_gone(const NodePtr& node) override {
    PlainFixture::on_gone(node);
    if (when_gone_) std::exchange(when_gone_, nullptr)();
  }

 protected:
  // A directory with two files, and one outside that has others of the same names.
  void SetUp() override {
    PlainFixture::SetUp();
    top_ = make("top");
    stop();
    fs::create_directories(below("d/e"));
    fs::create_directories(outside("e"));
    for (const auto* const name : {"e/one", "e/two"}) {
      write(top_, std::string("d/") + name, "bytes");
      std::ofstream(outside(name)) << "of somebody else";
    }
  }
  std::string below(const std::string& path) const {
    return directory_.file("plain") + "/files/top/" + path;
  }
  std::string outside(const std::string& path) const {
    return directory_.file("outside") + "/" + path;
  }
  void swap() {
    fs::rename(below("d"), below("d2"));
    fs::create_directory_symlink(outside(""), below("d"));
  }
  NodePtr know(const std::string& name) {
    const SharedLock shared = store_->tree().shared();
    Tree& tree = store_->tree();
    return tree.child(tree.child(tree.child(tree.top(top_), "d", true), "e", true), name, false);
  }
  void expect_outside_untouched() {
    for (const auto* const name : {"e/one", "e/two"}) {
      std::string bytes;
      std::getline(std::ifstream(outside(name)), bytes);
      EXPECT_EQ(bytes, "of somebody else") << name;
    }
  }

  DirectoryPtr top_;
  std::function<void()> when_gone_;
};

TEST_F(Symlinks, AScanDoesNotGoThroughOne) {
  const std::atomic<bool> never{false};
  std::set<std::string> found;
  ASSERT_TRUE(walk(store_->root(), "top", never, [&](const FoundFile& file) {
    found.insert(file.path);
    if (file.path == "d/e") swap();
  }));
  EXPECT_EQ(found, (std::set<std::string>{"d", "d/e"}));
}

TEST_F(Symlinks, WhatVerifyDropsIsNotBehindOne) {
  const std::vector<NodePtr> known{know("one"), know("two")};
  for (const auto* const name : {"d/e/one", "d/e/two"})
    ASSERT_EQ(clear_record((*open_file(top_, name, Access::kRead))->fd()), 0);
  when_gone_ = [this] { swap(); };  // between the first and the second
  EXPECT_EQ(store_->verify(top_).bad.size(), 1U);
  expect_outside_untouched();
}

TEST_F(Symlinks, NorIsWhatIsDroppedByItsName) {
  const NodePtr known = know("one");
  swap();
  struct stat victim {};
  ASSERT_EQ(::stat(outside("e/one").c_str(), &victim), 0);
  EXPECT_FALSE(store_->drop(known, victim.st_ino, Loss::kCorrupt));
  EXPECT_FALSE(open_file(top_, "d/e/one", Access::kWrite));
  expect_outside_untouched();
}

TEST_F(Symlinks, NorAnythingBehindTheLastName) {
  fs::remove(below("d/e/one"));
  fs::create_symlink(outside("e/one"), below("d/e/one"));
  EXPECT_FALSE(open_file(top_, "d/e/one", Access::kRead));
  EXPECT_TRUE(store_->verify(top_).bad.empty());
  expect_outside_untouched();
}

}  // namespace
}  // namespace kvfs::plain
