#include "fs/mount/inode_table.h"

#include <gtest/gtest.h>

namespace kvfs::mount {
namespace {

Inode prefix(std::uint64_t key, std::uint32_t stored_at = 1) {
  Inode inode;
  inode.id = {InodeKind::kPrefix, 7, {key, 0}, {}};
  inode.stored_at = stored_at;
  return inode;
}

TEST(InodeTable, TheRootIsThereAndStays) {
  InodeTable table;
  ASSERT_NE(table.get(FUSE_ROOT_ID), nullptr);
  table.forget(FUSE_ROOT_ID, 1000);
  EXPECT_NE(table.get(FUSE_ROOT_ID), nullptr);
}

TEST(InodeTable, LivesUntilEveryLookupIsForgotten) {
  InodeTable table;
  const InodePtr first = table.look_up(prefix(1));
  EXPECT_EQ(table.look_up(prefix(1)), first);
  EXPECT_NE(table.look_up(prefix(2))->nodeid, first->nodeid);
  table.forget(first->nodeid, 1);
  EXPECT_EQ(table.get(first->nodeid), first);
  table.forget(first->nodeid, 1);
  EXPECT_EQ(table.get(first->nodeid), nullptr);
  EXPECT_EQ(table.find(first->id), nullptr);
}

TEST(InodeTable, NodeIdsAreNeverUsedTwiceButNumbersStay) {
  InodeTable table;
  const InodePtr first = table.look_up(prefix(1));
  table.forget(first->nodeid, 1);
  const InodePtr second = table.look_up(prefix(1));
  EXPECT_NE(second->nodeid, first->nodeid);
  EXPECT_EQ(second->number, first->number);
}

TEST(InodeTable, WhatWasStoredAnewIsAnotherInode) {
  InodeTable table;
  const InodePtr old = table.look_up(prefix(1, 100));
  const InodePtr anew = table.look_up(prefix(1, 101));
  EXPECT_NE(old->nodeid, anew->nodeid);
  EXPECT_EQ(table.get(old->nodeid), nullptr);
  EXPECT_EQ(table.get_opened(old->nodeid), old) << "descriptors of the old one still work";
  EXPECT_EQ(table.find(old->id), anew);
  table.forget(old->nodeid, 1);
  EXPECT_EQ(table.find(old->id), anew);
}

TEST(InodeTable, DetachedIsFoundNoMore) {
  InodeTable table;
  const InodePtr inode = table.look_up(prefix(1));
  EXPECT_EQ(table.detach(inode->id), inode);
  EXPECT_EQ(table.detach(inode->id), nullptr);
  EXPECT_EQ(table.get(inode->nodeid), nullptr);
  EXPECT_EQ(table.get_opened(inode->nodeid), inode) << "descriptors of it still work";
  EXPECT_NE(table.look_up(prefix(1))->nodeid, inode->nodeid);
  table.forget(inode->nodeid, 1);
  EXPECT_EQ(table.get_opened(inode->nodeid), nullptr);
}

TEST(InodeNumber, DependsOnWhatIsNamedAlone) {
  const InodeId id{InodeKind::kPrefix, 1, {5, 6}, {}};
  EXPECT_EQ(inode_number(id), inode_number(id));
  EXPECT_NE(inode_number(id), inode_number({InodeKind::kPrefix, 2, {5, 6}, {}}));
  EXPECT_NE(inode_number(id), inode_number({InodeKind::kPrefix, 1, {5, 7}, {}}));
  EXPECT_NE(inode_number(id), inode_number({InodeKind::kSlab, 1, {5, 6}, {}}));
  EXPECT_EQ(inode_number({InodeKind::kName, 1, {5, 6}, "a"}),
            inode_number({InodeKind::kName, 1, {8, 9}, "a"}))
      << "a name keeps its number when it comes to mean another prefix";
  EXPECT_EQ(inode_number({InodeKind::kIndex, 1, {1, 0}, {}}),
            inode_number({InodeKind::kIndex, 1, {2, 0}, {}}));
  EXPECT_EQ(inode_number({}), FUSE_ROOT_ID);
  EXPECT_LT(inode_number(id), 1ULL << 63);
}

}  // namespace
}  // namespace kvfs::mount
