#include "tools/cli/mount_point.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace kvfs::cli {
namespace {

TEST(MountPoint, OnlyKvfsMountsCountAndEscapesAreUndone) {
  EXPECT_THAT(
      kvfs_mounts_in(
          "22 1 254:0 / / rw - ext4 /dev/vda rw\n"
          "40 22 0:50 / /a\\040b/kv rw,nosuid shared:3 master:1 - fuse.kvfs kvfs rw,user_id=0\n"
          "41 22 0:51 / /sshfs rw - fuse.sshfs kvfs rw\n"
          "42 22 0:52 / /kv rw - fuse.kvfs kvfs rw\n"
          "broken line\n"),
      testing::ElementsAre("/a b/kv", "/kv"));
}

}  // namespace
}  // namespace kvfs::cli
