#include "fs/plain/tree.h"

#include <gtest/gtest.h>

#include "fs/plain/open_files.h"

namespace kvfs::plain {
namespace {

TEST(Tree, PathsFollowRenamedDirectories) {
  Tree tree;
  const auto top = std::make_shared<Directory>(1, "top");
  const NodePtr root = tree.top(top);
  const NodePtr a = tree.child(root, "a", true);
  const NodePtr file = tree.child(a, "file", false);
  EXPECT_EQ(Tree::path(*file), "top/a/file");
  EXPECT_EQ(tree.rename(root, "a", root, "b"), nullptr);
  EXPECT_EQ(Tree::path(*file), "top/b/file");
  top->set_name("renamed");
  EXPECT_EQ(Tree::path(*a, "x"), "renamed/b/x");
  EXPECT_EQ(tree.find(top, "b/file"), file);
  EXPECT_EQ(tree.find(top, "a/file"), nullptr);
}

TEST(Tree, OneNodeANameWhileItIsHeld) {
  Tree tree;
  const NodePtr root = tree.top(std::make_shared<Directory>(1, "top"));
  NodePtr first = tree.child(root, "a", false);
  EXPECT_EQ(tree.child(root, "a", false), first);
  const std::uint64_t serial = first->serial;
  first.reset();
  EXPECT_NE(tree.child(root, "a", false)->serial, serial);
}

TEST(Tree, WhatIsRenamedOverIsGone) {
  Tree tree;
  const NodePtr root = tree.top(std::make_shared<Directory>(1, "top"));
  const NodePtr old = tree.child(root, "name", false);
  const NodePtr fresh = tree.child(root, "temporary", false);
  EXPECT_EQ(tree.rename(root, "temporary", root, "name"), old);
  EXPECT_TRUE(old->gone);
  EXPECT_FALSE(fresh->gone);
  EXPECT_EQ(tree.child(root, "name", false), fresh);
  EXPECT_EQ(tree.remove(*root, "name"), fresh);
  EXPECT_TRUE(fresh->gone);
  EXPECT_NE(tree.child(root, "name", false), fresh);
}

TEST(Tree, AParentLivesAsLongAsItsChildren) {
  Tree tree;
  NodePtr deep = tree.top(std::make_shared<Directory>(1, "top"));
  for (int depth = 0; depth < 100; ++depth) deep = tree.child(deep, "d", true);
  const std::string path = Tree::path(*deep);
  EXPECT_EQ(path.size(), 3 + 100 * 2U);
}

// By renaming one chain of directories below another, again and again.
TEST(Tree, NoDepthIsTooMuchForTheStack) {
  constexpr int kDepth = 200000;
  Tree tree;
  NodePtr deep = tree.top(std::make_shared<Directory>(1, "top"));
  for (int depth = 0; depth < kDepth; ++depth) deep = tree.child(deep, "d", true);
  EXPECT_EQ(Tree::path(*deep).size(), 3 + kDepth * 2U);
  deep.reset();
}

}  // namespace
}  // namespace kvfs::plain
