#include "tools/cli/prefix_tree.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "tools/cli/stats_file.h"
#include "tools/cli/terminal.h"
#include "tools/cli/units.h"

namespace kvfs::cli {
namespace {

using nlohmann::json;

constexpr std::size_t kShownDigits = 12;

TreeNode node_of(const json& node) {
  TreeNode out{.key = text_of(node, "key"),
               .parent = text_of(node, "parent"),
               .blocks = count_of(node, "blocks"),
               .own_blocks = count_of(node, "own_blocks"),
               .hits = count_of(node, "hits"),
               .pinned = node.value("pinned", false)};
  if (node.contains("names")) out.names = node["names"].get<std::vector<std::string>>();
  if (node.contains("tiers")) out.tiers = tiers_text(node["tiers"]);
  return out;
}

// Draws depth first without recursion: chats can be deep.
class TreeDrawer {
 public:
  TreeDrawer(const PrefixTree& tree, std::uint32_t block_tokens, std::size_t limit,
             const Terminal& terminal)
      : tree_(tree), block_tokens_(block_tokens), limit_(limit), terminal_(terminal) {}

  std::string draw() {
    push(tree_.roots, "", true);
    while (!pending_.empty() && drawn_ < limit_) {
      const Pending next = pending_.back();
      pending_.pop_back();
      draw_node(next);
    }
    const std::size_t left = tree_.nodes.size() - drawn_;
    if (left > 0) {
      out_ += terminal_.tint(Tint::kDim, fmt::format("… {} more (--limit)\n", human_count(left)));
    }
    return out_;
  }

 private:
  struct Pending {
    std::size_t node;
    std::string indent;
    bool last, root;
  };

  void push(const std::vector<std::size_t>& nodes, const std::string& indent, bool root) {
    for (std::size_t i = nodes.size(); i-- > 0;) {
      pending_.push_back({nodes[i], indent, i + 1 == nodes.size(), root});
    }
  }

  void draw_node(const Pending& at) {
    const TreeNode& node = tree_.nodes[at.node];
    const std::string branch = at.root ? "" : (at.last ? "└─ " : "├─ ");
    out_ += terminal_.tint(Tint::kDim, at.indent + branch);
    out_ += describe(node) + "\n";
    ++drawn_;
    push(node.children, at.root ? "" : at.indent + (at.last ? "   " : "│  "), false);
  }

  [[nodiscard]] std::string describe(const TreeNode& node) const {
    const std::uint64_t tokens = node.blocks * block_tokens_;
    std::string text = terminal_.tint(Tint::kBold, node.key.substr(0, kShownDigits));
    if (!node.names.empty()) text += fmt::format(" {}", fmt::join(node.names, ", "));
    text += fmt::format("  {} tokens", human_count(tokens));
    if (!node.parent.empty())
      text += fmt::format(" (+{})", human_count(node.own_blocks * block_tokens_));
    if (node.children.size() > 1) text += fmt::format(", shared by {}", node.children.size());
    if (!node.tiers.empty()) text += terminal_.tint(Tint::kDim, "  " + node.tiers);
    if (node.hits > 0)
      text += fmt::format("  {} hit{}", human_count(node.hits), node.hits == 1 ? "" : "s");
    if (node.pinned) text += terminal_.tint(Tint::kWarn, "  pinned");
    return text;
  }

  const PrefixTree& tree_;
  std::uint32_t block_tokens_;
  std::size_t limit_;
  const Terminal& terminal_;
  std::vector<Pending> pending_;
  std::string out_;
  std::size_t drawn_ = 0;
};

}  // namespace

std::string tiers_text(const json& tiers) {
  std::string text;
  for (const char* name : {"gpu", "dram", "nvme", "object"}) {
    const std::uint64_t blocks = count_of(tiers, name);
    if (blocks > 0)
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, human_count(blocks));
  }
  return text;
}

PrefixTree build_tree(const std::vector<json>& nodes) {
  PrefixTree tree;
  std::unordered_map<std::string, std::size_t> by_key;
  for (const json& node : nodes) {
    tree.nodes.push_back(node_of(node));
    by_key[tree.nodes.back().key] = tree.nodes.size() - 1;
  }
  for (std::size_t i = 0; i < tree.nodes.size(); ++i) {
    const auto parent = by_key.find(tree.nodes[i].parent);
    if (parent == by_key.end() || parent->second == i) {
      tree.roots.push_back(i);
    } else {
      tree.nodes[parent->second].children.push_back(i);
    }
  }
  const auto shorter = [&](std::size_t a, std::size_t b) {
    return tree.nodes[a].blocks < tree.nodes[b].blocks;
  };
  std::ranges::stable_sort(tree.roots, shorter);
  for (TreeNode& node : tree.nodes) std::ranges::stable_sort(node.children, shorter);
  return tree;
}

std::string draw_tree(const PrefixTree& tree, std::uint32_t block_tokens, std::size_t limit,
                      const Terminal& terminal) {
  return TreeDrawer(tree, block_tokens, limit, terminal).draw();
}

}  // namespace kvfs::cli
