#include "lib/format/result.h"

#include <gmock/gmock.h>

#include <cerrno>
#include <set>

namespace kvfs {
namespace {

TEST(Result, EveryCodeHasItsOwnName) {
  std::set<std::string_view> names;
  for (int code = 0; code <= static_cast<int>(Code::kUnavailable); ++code) {
    const std::string_view name = code_name(static_cast<Code>(code));
    EXPECT_NE(name, "unknown");
    EXPECT_TRUE(names.insert(name).second) << name;
  }
  EXPECT_EQ(names.size(), 11U);
  EXPECT_EQ(code_name(Code::kNotFound), "not_found");
}

TEST(Result, FailErrnoNamesTheCallAndTheReason) {
  const Status status = fail_errno(ENOENT, "open /a/b");
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kIo);
  EXPECT_EQ(status.error().message, "open /a/b: No such file or directory");
}

TEST(Result, PassKeepsCodeAndSentence) {
  Result<int> number = fail(Code::kBusy, "it is leased: wait");
  const Result<std::string> text = pass(std::move(number));
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().code, Code::kBusy);
  EXPECT_EQ(text.error().message, "it is leased: wait");
}

}  // namespace
}  // namespace kvfs
