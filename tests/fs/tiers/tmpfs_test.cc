#include "fs/tiers/tmpfs.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/support/temp_directory.h"

namespace kvfs::tiers {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr uid_t kNobody = 65534;

std::uint64_t size_of(const std::string& path) {
  struct statvfs room {};
  ::statvfs(path.c_str(), &room);
  return room.f_blocks * room.f_frsize;
}

class TmpfsTest : public testing::Test {
 protected:
  TmpfsOptions options(std::uint64_t bytes) {
    return {.mount_point = directory_.file("memory"),
            .fallback = shared_.file("fallback"),
            .bytes = bytes};
  }
  // In a child without privilege: the address of the Error's code, or -1 for none.
  int prepare_as_nobody() {
    ::chmod(directory_.path().c_str(), 0777);
    ::chmod(shared_.path().c_str(), 01777);
    const pid_t child = ::fork();
    if (child == 0) {
      if (::setresuid(kNobody, kNobody, kNobody) != 0) ::_exit(100);
      const auto made = prepare_private_tmpfs(options(16 * kMiB));
      if (made) ::_exit(made->path == shared_.file("fallback") && !made->mounted ? 99 : 98);
      ::_exit(static_cast<int>(made.error().code));
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WEXITSTATUS(status);
  }
  test::TempDirectory directory_;
  test::TempDirectory shared_{"/dev/shm"};
};

TEST_F(TmpfsTest, MountsResizesAndUnmounts) {
  auto tmpfs = prepare_private_tmpfs(options(16 * kMiB));
  ASSERT_TRUE(tmpfs) << tmpfs.error().message;
  if (!tmpfs->mounted) GTEST_SKIP() << "needs the right to mount";
  struct stat info {};
  ASSERT_EQ(::stat(tmpfs->path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0700U);
  EXPECT_EQ(size_of(tmpfs->path), 16 * kMiB);
  std::ofstream(tmpfs->path + "/slab") << "bytes";

  // The next daemon finds it, larger.
  auto again = prepare_private_tmpfs(options(32 * kMiB));
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_TRUE(again->mounted);
  EXPECT_EQ(again->huge, tmpfs->huge);
  EXPECT_EQ(size_of(again->path), 32 * kMiB);
  EXPECT_TRUE(std::filesystem::exists(again->path + "/slab"));

  const int fd = ::open((again->path + "/slab").c_str(), O_RDONLY | O_CLOEXEC);
  EXPECT_EQ(remove_private_tmpfs(*again).error().code, Code::kBusy);
  ::close(fd);
  EXPECT_TRUE(remove_private_tmpfs(*again));
  EXPECT_FALSE(std::filesystem::exists(again->path));
}

TEST_F(TmpfsTest, RefusesAnotherFileSystemAtItsPlace) {
  std::filesystem::create_directory(directory_.file("memory"));
  if (::mount("none", directory_.file("memory").c_str(), "ramfs", 0, nullptr) != 0) {
    GTEST_SKIP() << "needs the right to mount";
  }
  EXPECT_EQ(prepare_private_tmpfs(options(kMiB)).error().code, Code::kMismatch);
  ::umount(directory_.file("memory").c_str());
}

TEST_F(TmpfsTest, WithoutPrivilegeFallsBackToASharedTmpfs) {
  if (::geteuid() != 0) GTEST_SKIP() << "runs as another user from root";
  ASSERT_EQ(prepare_as_nobody(), 99);
  struct stat info {};
  ASSERT_EQ(::stat(shared_.file("fallback").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0700U);
  EXPECT_EQ(info.st_uid, kNobody);
  EXPECT_EQ(prepare_as_nobody(), 99) << "and finds it again";

  std::ofstream(shared_.file("fallback") + "/slab") << "bytes";
  EXPECT_TRUE(remove_private_tmpfs({.path = shared_.file("fallback")}));
  EXPECT_FALSE(std::filesystem::exists(shared_.file("fallback")));
}

TEST_F(TmpfsTest, RefusesADirectoryOthersMayHavePrepared) {
  if (::geteuid() != 0) GTEST_SKIP() << "runs as another user from root";
  const std::string fallback = shared_.file("fallback");
  std::filesystem::create_directory(shared_.file("elsewhere"));
  ASSERT_EQ(::chown(shared_.file("elsewhere").c_str(), kNobody, kNobody), 0);
  std::filesystem::create_symlink(shared_.file("elsewhere"), fallback);
  EXPECT_EQ(prepare_as_nobody(), static_cast<int>(Code::kPermission)) << "a link";
  std::filesystem::remove(fallback);

  std::filesystem::create_directory(fallback);
  ASSERT_EQ(::chmod(fallback.c_str(), 0755), 0);
  EXPECT_EQ(prepare_as_nobody(), static_cast<int>(Code::kPermission)) << "somebody else's";
  ASSERT_EQ(::chown(fallback.c_str(), kNobody, kNobody), 0);
  EXPECT_EQ(prepare_as_nobody(), static_cast<int>(Code::kPermission)) << "open to others";
  ASSERT_EQ(::chmod(fallback.c_str(), 0700), 0);
  EXPECT_EQ(prepare_as_nobody(), 99);
}

}  // namespace
}  // namespace kvfs::tiers
