#include "fs/mount_info.h"

#include <gtest/gtest.h>

#include <sstream>

namespace kvfs {
namespace {

TEST(MountInfo, EscapesAreUndoneAndOnlyKvfsIsKvfs) {
  std::istringstream file(
      "22 1 254:0 / / rw - ext4 /dev/vda rw\n"
      "40 22 0:50 / /a\\040b/kv rw,nosuid shared:3 master:1 - fuse.kvfs kvfs rw,user_id=0\n"
      "41 22 0:51 / /sshfs rw - fuse.sshfs kvfs rw\n"
      "broken line\n");
  const std::vector<MountInfo> mounts = mounts_in(file);
  ASSERT_EQ(mounts.size(), 3U);
  EXPECT_FALSE(mounts[0].is_kvfs());
  EXPECT_TRUE(mounts[1].is_kvfs());
  EXPECT_EQ(mounts[1].point, "/a b/kv");
  EXPECT_EQ(mounts[1].device, "0:50");
  EXPECT_EQ(mounts[1].options, "rw,user_id=0");
  EXPECT_FALSE(mounts[2].is_kvfs());
}

TEST(MountInfo, OnlyAMountsOwnPathHasIt) {
  EXPECT_EQ(mount_at("/proc")->type, "proc");
  EXPECT_FALSE(mount_at("/proc/self"));
}

}  // namespace
}  // namespace kvfs
