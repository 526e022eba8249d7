#include "fs/mount/to_errno.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace kvfs::mount {
namespace {

// The errno values that lib/format/ioctls.h promises.
TEST(ToErrno, CodesOfTheStore) {
  EXPECT_EQ(to_errno(Code::kNotFound), ENOENT);
  EXPECT_EQ(to_errno(Code::kNoSpace), ENOSPC);
  EXPECT_EQ(to_errno(Code::kInvalid), EINVAL);
  EXPECT_EQ(to_errno(Code::kCorrupt), EIO);
  EXPECT_EQ(to_errno(Code::kIo), EIO);
  EXPECT_EQ(to_errno(Code::kTimeout), ETIMEDOUT);
  EXPECT_EQ(to_errno(Code::kBusy), EBUSY);
  EXPECT_EQ(to_errno(Code::kPermission), EACCES);
}

TEST(ToErrno, RefusalsOfTheMount) {
  EXPECT_EQ(to_errno(Refusal::kOtherAbi), EPROTO);
  EXPECT_EQ(to_errno(Refusal::kOverCapacity), EDQUOT);
  EXPECT_EQ(to_errno(Refusal::kNoAttribute), ENODATA);
  EXPECT_EQ(to_errno(Refusal::kReadOnlyFile), EACCES);
  EXPECT_EQ(to_errno(Refusal::kNotSupported), EOPNOTSUPP);
  EXPECT_EQ(to_errno(Refusal::kStale), ESTALE);
}

}  // namespace
}  // namespace kvfs::mount
