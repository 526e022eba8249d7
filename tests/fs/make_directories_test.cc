#include "fs/make_directories.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/support/temp_directory.h"

namespace kvfs {
namespace {

TEST(MakeDirectories, WhatIsThereIsFineAndWhatIsInTheWayIsNamed) {
  const test::TempDirectory directory;
  const std::string path = directory.file("a/b/c");
  EXPECT_TRUE(make_directories(path));
  EXPECT_TRUE(std::filesystem::is_directory(path));
  EXPECT_TRUE(make_directories(path));
  std::ofstream(path + "/file") << "not a directory";
  const Status made = make_directories(path + "/file/d");
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, Code::kIo);
  EXPECT_NE(made.error().message.find(path + "/file/d"), std::string::npos);
}

}  // namespace
}  // namespace kvfs
