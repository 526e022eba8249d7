#include "tools/cli/table.h"

#include <gtest/gtest.h>

namespace kvfs::cli {
namespace {

TEST(Table, ColumnsAreAsWideAsTheyNeed) {
  Table table({{"name"}, {"size", Align::kRight}});
  table.add({"a", "1"});
  table.add({"longer", "12345"});
  EXPECT_EQ(table.render(Terminal::plain(SIZE_MAX)),
            "name     size\na           1\nlonger  12345\n");
}

TEST(Table, OneColumnGivesWayOnANarrowTerminal) {
  Table table({{"name", Align::kLeft, true}, {"size"}});
  table.add({"a-name-of-twenty-one-", "12345"});
  EXPECT_EQ(table.render(Terminal::plain(19)), "name          size\na-name-of-t…  12345\n");
}

TEST(Table, MissingCellsAreEmptyAndNoBlanksTrail) {
  Table table({{"a"}, {"b"}});
  table.add({"x"});
  EXPECT_EQ(table.render(Terminal::plain(80)), "a  b\nx\n");
}

TEST(Text, WidthAndCutCountCharactersNotBytes) {
  EXPECT_EQ(text_width("größe"), 5U);
  EXPECT_EQ(cut_text("größe", 4), "grö…");
  EXPECT_EQ(cut_text("größe", 5), "größe");
  EXPECT_EQ(cut_text("abc", 0), "");
}

TEST(Terminal, PlainOnesTakeNoColours) {
  EXPECT_EQ(Terminal::plain(80).tint(Tint::kBad, "x"), "x");
}

}  // namespace
}  // namespace kvfs::cli
