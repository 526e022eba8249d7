#include "fs/plain/scan.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "fs/unique_fd.h"
#include "tests/support/temp_directory.h"

namespace kvfs::plain {
namespace {

// What root may look at, others may not.
class AsNobody {
 public:
  AsNobody() { ::setfsuid(kNobody); }
  ~AsNobody() { ::setfsuid(::geteuid()); }
  AsNobody(const AsNobody&) = delete;
  AsNobody& operator=(const AsNobody&) = delete;

 private:
  static constexpr uid_t kNobody = 65534;
};

TEST(Scan, SaysSoWhenItCouldNotSeeAll) {
  const test::TempDirectory directory;
  const std::string root = directory.file("root");
  const auto make = [&](const std::string& name) {
    std::filesystem::create_directories(root + "/top/" + name);
    std::ofstream(root + "/top/" + name + "/file") << "bytes";
  };
  make("seen");
  make("names only");
  const UniqueFd fd(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const std::atomic<bool> never{false};
  std::set<std::string> found;
  const auto look = [&] {
    found.clear();
    const AsNobody nobody;
    return scan(fd.get(), "top", never, [&](const FoundFile& file) { found.insert(file.path); });
  };
  EXPECT_TRUE(look());
  EXPECT_EQ(found, (std::set<std::string>{"seen/file", "names only/file"}));
  ASSERT_EQ(::chmod((root + "/top/names only").c_str(), 0444), 0);
  const Status status = look();
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message.find("top/names only"), std::string::npos);
  EXPECT_EQ(found, std::set<std::string>{"seen/file"}) << "the rest was walked";
  EXPECT_FALSE(scan(fd.get(), "not there", never, [](const FoundFile&) {}));
}

TEST(Scan, SeesAllOfADirectoryThatIsRenamedMeanwhile) {
  const test::TempDirectory directory;
  for (const auto* const name : {"top/one", "top/two"})
    std::filesystem::create_directories(directory.file(name) + "/below");
  const UniqueFd fd(::open(directory.file("").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const std::atomic<bool> never{false};
  std::set<std::string> found;
  EXPECT_TRUE(walk(fd.get(), "top", never, [&](const FoundFile& file) {
    if (found.empty()) std::filesystem::rename(directory.file("top"), directory.file("renamed"));
    found.insert(file.path);
  }));
  EXPECT_EQ(found, (std::set<std::string>{"one", "one/below", "two", "two/below"}));
}

}  // namespace
}  // namespace kvfs::plain
