#include "fs/mount/attributes.h"

#include <gtest/gtest.h>

namespace kvfs::mount {
namespace {

mode_t bits(InodeKind kind, mode_t directory) { return mode_below(kind, directory) & 07777; }

TEST(ModeBelow, FilesAreReadableByThoseWhoMayReadTheDirectory) {
  EXPECT_EQ(bits(InodeKind::kPrefix, 0755), 0444U);
  EXPECT_EQ(bits(InodeKind::kPrefix, 0700), 0400U);
  EXPECT_EQ(bits(InodeKind::kPrefix, 0770), 0440U);
  EXPECT_EQ(bits(InodeKind::kIndex, 0750), 0440U);
  EXPECT_EQ(bits(InodeKind::kGeometry, 0711), 0400U);
}

TEST(ModeBelow, OnlyWritersWriteSlabsAndTalkToTheDaemon) {
  EXPECT_EQ(bits(InodeKind::kSlab, 0755), 0644U);
  EXPECT_EQ(bits(InodeKind::kSlab, 0770), 0660U);
  EXPECT_EQ(bits(InodeKind::kSlab, 0500), 0400U);
  EXPECT_EQ(bits(InodeKind::kReserve, 0755), 0600U);
  EXPECT_EQ(bits(InodeKind::kControl, 0775), 0660U);
  EXPECT_EQ(bits(InodeKind::kControl, 0555), 0U);
}

TEST(ModeBelow, DirectoriesInsideAreNobodysToWrite) {
  EXPECT_EQ(mode_below(InodeKind::kNamespace, 0750), static_cast<mode_t>(S_IFDIR | 0750));
  EXPECT_EQ(mode_below(InodeKind::kMeta, 0750), static_cast<mode_t>(S_IFDIR | 0550));
  EXPECT_EQ(mode_below(InodeKind::kSlabs, 0777), static_cast<mode_t>(S_IFDIR | 0555));
}

}  // namespace
}  // namespace kvfs::mount
