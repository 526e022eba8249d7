#include "fs/store/survivor_reader.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "fs/store/generation_files.h"
#include "lib/format/index_view.h"

namespace kvfs::store {
namespace {

bool live(const NodeFile& nodes, BlockId id) { return (nodes.node(id).flags & kNodeLive) != 0; }

bool readable(const Placement& placement) {
  return placement.dram.valid() && (placement.flags & kPromoting) == 0;
}

// Of the old daemon's state only what still means something.
Node remembered(const Node& old) {
  return {.hits = old.hits,
          .stored_at = old.stored_at,
          .last_hit = old.last_hit,
          .flags = old.flags & (kNodeLive | kNodePinned | kNodeJournaled)};
}

Placement remembered(const Placement& old) {
  Placement placement = old;
  if (!readable(old)) placement.dram = {};
  placement.resident_pos = Placement{}.resident_pos;
  placement.io_pins = 0;
  placement.flags &= kHasChecksum | kDirty;
  return placement;
}

}  // namespace

Result<SurvivorReader::Generation> SurvivorReader::open(const std::string& directory,
                                                        std::uint64_t generation) const {
  Result<NodeFile> nodes = NodeFile::open(nodes_path(directory, generation), geometry_);
  if (!nodes) return pass(std::move(nodes));
  Result<MappedFile> index = MappedFile::open(index_path(directory, generation));
  if (!index) return pass(std::move(index));
  const Result<IndexView> view = IndexView::attach(index->memory(), geometry_);
  if (!view)
    return fail(view.error().code, index_path(directory, generation) + ": " + view.error().message);
  const IndexHeader& header = view->header();
  return Generation{
      .index = std::move(*index),
      .records = IndexRecords(header),
      .nodes = std::move(*nodes),
      .high = std::min({header.record_high, header.record_capacity, nodes->capacity()})};
}

void SurvivorReader::add(const std::string& directory, std::uint64_t generation) {
  Result<Generation> opened = open(directory, generation);
  if (opened) {
    generations_.push_back(std::move(*opened));
  } else {
    spdlog::warn("what was in DRAM is not taken over from generation {}: {}", generation,
                 opened.error().message);
  }
}

bool SurvivorReader::in_dram(const Generation& from, BlockId id) const {
  if (!live(from.nodes, id)) return false;
  bool needs_none = true;  // windows may have passed all of its groups
  for (std::uint32_t g = 0; g < geometry_.groups.size(); ++g) {
    if (readable(from.nodes.placement(id, g))) return true;
    needs_none = needs_none && geometry_.window_blocks(g) != 0;
  }
  return needs_none;
}

bool SurvivorReader::consistent(const Generation& from, BlockId id) const {
  const BlockId parent = from.records.parent(id);
  const std::uint32_t depth = from.records.depth(id);
  if (parent == kNoBlock ? depth != 0
                         : parent >= from.high || !live(from.nodes, parent) ||
                               from.records.depth(parent) + 1 != depth) {
    return false;
  }
  const Key before = parent == kNoBlock ? geometry_.seed() : from.records.key(parent);
  return chain_key(before, from.records.tokens(id), from.records.extra(id)) == from.records.key(id);
}

std::vector<SurvivorReader::Candidate> SurvivorReader::candidates() const {
  std::vector<Candidate> found;
  std::size_t damaged = 0;
  for (std::uint32_t index = 0; index < generations_.size(); ++index) {
    const Generation& from = generations_[index];
    for (BlockId id = 0; id < from.high; ++id) {
      if (!in_dram(from, id)) continue;
      if (consistent(from, id)) {
        found.push_back({from.records.depth(id), index, id});
      } else {
        ++damaged;
      }
    }
  }
  if (damaged != 0) {
    spdlog::warn("{} blocks in DRAM are not taken over: their records are damaged", damaged);
  }
  std::ranges::sort(found);
  return found;
}

void SurvivorReader::read(const std::function<void(const Catalog::Survivor&)>& each) const {
  std::unordered_set<Key, KeyHash> seen;
  std::vector<Placement> placements(geometry_.groups.size());
  for (const Candidate& candidate : candidates()) {
    const Generation& from = generations_[candidate.generation];
    const BlockId id = candidate.id;
    const Key key = from.records.key(id);
    if (generations_.size() > 1 && !seen.insert(key).second) continue;
    for (std::uint32_t g = 0; g < placements.size(); ++g) {
      placements[g] = remembered(from.nodes.placement(id, g));
    }
    const BlockId parent = from.records.parent(id);
    each({.key = key,
          .parent = parent == kNoBlock ? Key{} : from.records.key(parent),
          .extra = from.records.extra(id),
          .depth = candidate.depth,
          .tokens = from.records.tokens(id),
          .node = remembered(from.nodes.node(id)),
          .placements = placements});
  }
}

}  // namespace kvfs::store
