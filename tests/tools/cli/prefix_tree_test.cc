#include "tools/cli/prefix_tree.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tools/cli/terminal.h"

namespace kvfs::cli {
namespace {

using nlohmann::json;

json node(const char* key, json parent, int blocks, int own) {
  return {{"key", key},
          {"parent", std::move(parent)},
          {"blocks", blocks},
          {"own_blocks", own},
          {"tiers", {{"dram", blocks}, {"nvme", 0}}},
          {"hits", 0},
          {"pinned", false},
          {"names", json::array()}};
}

TEST(PrefixTree, BranchesAreDrawnBelowWhatTheyShare) {
  const PrefixTree tree = build_tree({node("bb", "aa", 6, 2), node("aa", nullptr, 4, 4),
                                      node("cc", "aa", 8, 4), node("dd", nullptr, 1, 1)});
  EXPECT_EQ(draw_tree(tree, 16, 100, Terminal::plain(80)),
            "dd  16 tokens  dram 1\n"
            "aa  64 tokens, shared by 2  dram 4\n"
            "├─ bb  96 tokens (+32)  dram 6\n"
            "└─ cc  128 tokens (+64)  dram 8\n");
}

TEST(PrefixTree, TheLimitSaysWhatIsLeftOut) {
  const PrefixTree tree =
      build_tree({node("aa", nullptr, 1, 1), node("bb", nullptr, 2, 2), node("cc", nullptr, 3, 3)});
  EXPECT_EQ(draw_tree(tree, 16, 1, Terminal::plain(80)),
            "aa  16 tokens  dram 1\n… 2 more (--limit)\n");
}

TEST(PrefixTree, ANodeWhoseParentWentIsARoot) {
  const PrefixTree tree = build_tree({node("bb", "gone", 6, 2)});
  EXPECT_EQ(tree.roots.size(), 1U);
}

TEST(PrefixTree, DeepChainsNeedNoStack) {
  std::vector<json> nodes;
  for (int i = 0; i < 100000; ++i)
    nodes.push_back(
        node(std::to_string(i).c_str(), i == 0 ? json() : json(std::to_string(i - 1)), i + 1, 1));
  EXPECT_NE(draw_tree(build_tree(nodes), 16, 3000, Terminal::plain(80)).find("97,000 more"),
            std::string::npos);
}

}  // namespace
}  // namespace kvfs::cli
