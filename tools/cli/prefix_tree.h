// The prefixes of a namespace as a tree: branching points and leaves (control.md `tree`).
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "lib/format/result.h"
#include "tools/cli/control_client.h"

namespace kvfs::cli {

struct TreeNode {
  std::string key, parent;  // hex; parent empty for a root
  std::uint64_t blocks = 0;
  std::uint64_t own_blocks = 0;  // beyond the parent's
  std::uint64_t hits = 0;
  bool pinned = false;
  std::vector<std::string> names;
  std::string tiers;                  // "dram 12, nvme 40"
  std::vector<std::size_t> children;  // indices into PrefixTree::nodes, ascending by blocks
};

struct PrefixTree {
  std::vector<TreeNode> nodes;
  std::vector<std::size_t> roots;
};

// "dram 12, nvme 40" from {"dram": 12, "nvme": 40}; tiers without blocks are left out.
std::string tiers_text(const nlohmann::json& tiers);

// A node whose parent is not among `nodes` (it went while the pages were read) becomes a root.
PrefixTree build_tree(const std::vector<nlohmann::json>& nodes);

// Lines with branches drawn; `block_tokens` turns blocks into tokens. At most `limit` nodes, then a
// line that says how many more there are.
std::string draw_tree(const PrefixTree& tree, std::uint32_t block_tokens, std::size_t limit,
                      const class Terminal& terminal);

}  // namespace kvfs::cli
