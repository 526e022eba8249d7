#include "fs/mount/import_table.h"

#include <gtest/gtest.h>

#include "fs/mount/import.h"

namespace kvfs::mount {
namespace {

std::shared_ptr<Import> make_import() { return *Import::create("/tmp", 0644); }

TEST(ImportTable, OneImportAName) {
  ImportTable table;
  const auto import = make_import();
  ASSERT_TRUE(table.add(1, "a", import));
  EXPECT_EQ(table.add(1, "a", make_import()).error().code, Code::kExists);
  EXPECT_TRUE(table.add(2, "a", make_import())) << "another namespace";
  EXPECT_EQ(table.find(1, "a"), import);
  EXPECT_EQ(table.name_of(1, *import), "a");
  EXPECT_EQ(table.list(1).size(), 1U);
}

TEST(ImportTable, RenameReplaces) {
  ImportTable table;
  const auto first = make_import();
  const auto second = make_import();
  ASSERT_TRUE(table.add(1, "a", first));
  ASSERT_TRUE(table.add(1, "b", second));
  EXPECT_TRUE(table.rename(1, "a", "b"));
  EXPECT_EQ(table.find(1, "b"), first);
  EXPECT_EQ(table.name_of(1, *second), "");
  EXPECT_FALSE(table.rename(1, "a", "c"));
}

TEST(ImportTable, SettledIsSeenByItsWriterOnlyAndNotListed) {
  ImportTable table;
  const auto import = make_import();
  ASSERT_TRUE(table.add(1, "a", import));
  EXPECT_TRUE(import->seen_as_file(42)) << "while it is written everybody sees it";
  import->settle(42);
  EXPECT_TRUE(import->seen_as_file(42));
  EXPECT_FALSE(import->seen_as_file(43));
  EXPECT_TRUE(table.list(1).empty());
  EXPECT_EQ(table.find(1, "a"), import);
}

TEST(Import, SpoolsAndForgets) {
  const auto import = make_import();
  EXPECT_EQ(import->facts().bytes, 0U);
  EXPECT_EQ(import->write(10, std::string("hello")).value(), 5U);
  EXPECT_EQ(import->facts().bytes, 15U);
  std::string back(5, ' ');
  EXPECT_EQ(import->read(10, back).value(), 5U);
  EXPECT_EQ(back, "hello");
  ASSERT_TRUE(import->truncate(3));
  EXPECT_EQ(import->facts().bytes, 3U);
  EXPECT_FALSE(import->stored());
}

}  // namespace
}  // namespace kvfs::mount
