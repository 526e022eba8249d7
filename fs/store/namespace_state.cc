#include "fs/store/namespace_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "fs/store/eviction_policy.h"

namespace kvfs::store {

std::uint32_t wall_seconds() {
  return static_cast<std::uint32_t>(std::chrono::duration_cast<std::chrono::seconds>(
                                        std::chrono::system_clock::now().time_since_epoch())
                                        .count());
}

std::uint32_t held_blocks(const Services& services, const Geometry& geometry) {
  if (services.nvme == nullptr) return kNoBlock;  // more than any prefix has
  std::uint64_t bytes = 0;
  for (std::uint32_t g = 0; g < geometry.groups.size(); ++g) bytes += geometry.slot_bytes(g);
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(services.dram->capacity() / 2 / bytes, kNoBlock));
}

NamespaceState::NamespaceState(Services& shared, const NamespaceRecord& record,
                               std::unique_ptr<Catalog> blocks)
    : services(shared),
      id(record.id),
      geometry(record.geometry),
      created_at(record.created_at),
      groups(static_cast<std::uint32_t>(record.geometry.groups.size())),
      held_blocks(store::held_blocks(shared, record.geometry)),
      name_history{record.name},
      ownership(record.ownership),
      catalog(std::move(blocks)) {
  for (std::uint32_t g = 0; g < groups; ++g) {
    stored_bytes[g] = geometry.stored_bytes(g);
    shapes[g] = gpu::block_shape(geometry, g);
    slot_bytes[g] = geometry.slot_bytes(g);
  }
}

NamespaceRecord NamespaceState::record() const {
  return {.id = id,
          .name = name(),
          .geometry = geometry,
          .ownership = ownership,
          .created_at = created_at};
}

std::string NamespaceState::describe(BlockId block) const {
  const std::string hex = to_hex(catalog->key(block));
  return fmt::format("block {} of prefix {} ({}/{})", catalog->depth(block), hex, name(),
                     prefix_file_name(catalog->key(block)));
}

Status NamespaceState::is_there() const {
  if (!removed) return {};
  return fail(Code::kNotFound, "namespace " + name() + " was removed");
}

// -- holds

void NamespaceState::release(std::span<const BlockId> ids, Removal& removal) {
  std::vector<Placement> freed;
  std::vector<BlockId> freed_ids;
  catalog->release(ids, freed, freed_ids);
  take_slots(freed, removal);
  for (const BlockId freed_id : freed_ids) {
    clear_gpu(freed_id, removal);
    if (!durable_store()) {
      catalog->recycle(freed_id);
      continue;
    }
    // It was erased when it was doomed; once more costs little and needs no memory of whether.
    removal.ops.push_back({JournalTable::kBlocks, block_key(id, freed_id), std::nullopt});
    removal.ids.push_back(freed_id);
  }
}

void NamespaceState::begin_io(BlockId block, std::uint32_t group) {
  ++catalog->placement(block, group).io_pins;
  catalog->acquire({&block, 1});
}

void NamespaceState::end_io(BlockId block, std::uint32_t group, Removal& removal) {
  --catalog->placement(block, group).io_pins;
  release({&block, 1}, removal);
}

std::uint32_t NamespaceState::held_by_others(BlockId block) const {
  std::uint32_t io = 0;
  for (std::uint32_t g = 0; g < groups; ++g) io += catalog->placement(block, g).io_pins;
  if (const auto write = writes.find(block); write != writes.end() && write->second.held) ++io;
  return catalog->node(block).leases - io;
}

void NamespaceState::pin(BlockId tip) {
  std::vector<BlockId> chain;
  catalog->chain(tip, chain);
  catalog->acquire(chain);
  catalog->set_pinned(tip, true);
  metrics.pinned.add();
}

void NamespaceState::unpin(BlockId tip, Removal& removal) {
  std::vector<BlockId> chain;
  catalog->chain(tip, chain);
  catalog->set_pinned(tip, false);
  metrics.pinned.sub();
  release(chain, removal);
}

// -- residency

void NamespaceState::set_dram(BlockId block, std::uint32_t group, tiers::DramSlot slot,
                              std::uint16_t flags) {
  catalog->set_dram(block, group, slot, flags);
  metrics.dram_blocks.add();
  metrics.dram_bytes.add(slot_bytes[group]);
}

tiers::DramSlot NamespaceState::clear_dram(BlockId block, std::uint32_t group) {
  mark_clean(block, group);
  const tiers::DramSlot slot = catalog->placement(block, group).dram;
  catalog->clear_dram(block, group);
  metrics.dram_blocks.sub();
  metrics.dram_bytes.sub(slot_bytes[group]);
  return slot;
}

void NamespaceState::set_nvme(BlockId block, std::uint32_t group, tiers::TierSlot slot) {
  catalog->set_nvme(block, group, slot);
  metrics.nvme_blocks.add();
  metrics.nvme_bytes.add(slot_bytes[group]);
}

void NamespaceState::give_up_nvme(BlockId block, std::uint32_t group) {
  stale_slots.emplace(block, catalog->placement(block, group).nvme);
  catalog->clear_nvme(block, group);
  metrics.nvme_blocks.sub();
  metrics.nvme_bytes.sub(slot_bytes[group]);
}

void NamespaceState::take_stale_slots(BlockId block, Removal& removal) {
  const auto [begin, end] = stale_slots.equal_range(block);
  for (auto at = begin; at != end; ++at) removal.nvme.push_back(at->second);
  stale_slots.erase(begin, end);
}

void NamespaceState::set_gpu(BlockId block, std::uint32_t group, tiers::GpuSlot slot) {
  on_gpu.emplace(BlockOf{block, group}, slot);
  catalog->set_gpu_place(block, group, make_place(slot.slab, slot.slot));
  metrics.gpu_blocks.add();
  metrics.gpu_bytes.add(slot_bytes[group]);
}

void NamespaceState::clear_gpu(BlockId block, std::uint32_t group, Removal& removal) {
  const auto at = on_gpu.find({block, group});
  if (at == on_gpu.end()) return;
  removal.gpu.push_back(at->second);
  on_gpu.erase(at);
  catalog->set_gpu_place(block, group, kNoPlace);
  metrics.gpu_blocks.sub();
  metrics.gpu_bytes.sub(slot_bytes[group]);
}

void NamespaceState::clear_gpu(BlockId block, Removal& removal) {
  for (std::uint32_t g = 0; !on_gpu.empty() && g < groups; ++g) clear_gpu(block, g, removal);
}

void NamespaceState::mark_dirty(BlockId block, std::uint32_t group) {
  Placement& placement = catalog->placement(block, group);
  if ((placement.flags & kDirty) != 0) return;
  placement.flags |= kDirty;
  metrics.dirty_bytes.add(slot_bytes[group]);
  services.metrics.dirty_bytes.add(slot_bytes[group]);
}

void NamespaceState::mark_clean(BlockId block, std::uint32_t group) {
  Placement& placement = catalog->placement(block, group);
  if ((placement.flags & kDirty) == 0) return;
  placement.flags = static_cast<std::uint16_t>(placement.flags & ~kDirty);
  metrics.dirty_bytes.sub(slot_bytes[group]);
  services.metrics.dirty_bytes.sub(slot_bytes[group]);
}

bool NamespaceState::resident(BlockId block, std::uint32_t group) const {
  const Placement& placement = catalog->placement(block, group);
  return placement.dram.valid() && (placement.flags & kPromoting) == 0;
}

bool NamespaceState::movable(BlockId block, std::uint32_t group) const {
  const Placement& placement = catalog->placement(block, group);
  if (!placement.dram.valid() || (placement.flags & kPromoting) != 0) return false;
  if (placement.io_pins != 0) return false;
  if (catalog->node(block).leases == 0) return true;
  const auto at = idle_holds.find(block);
  return held_by_others(block) == (at == idle_holds.end() ? 0 : at->second);
}

bool NamespaceState::dirty_anywhere(BlockId block) const {
  for (std::uint32_t g = 0; g < groups; ++g) {
    if ((catalog->placement(block, g).flags & kDirty) != 0) return true;
  }
  return false;
}

double NamespaceState::value(BlockId block, std::uint32_t group, std::uint32_t now) const {
  const Node& node = catalog->node(block);
  return eviction_value({.depth = catalog->depth(block),
                         .block_tokens = geometry.block_tokens,
                         .hits = node.hits,
                         .age_seconds = now > node.last_hit ? now - node.last_hit : 0,
                         .bytes = slot_bytes[group]});
}

// -- structure

void NamespaceState::publish(std::span<const BlockId> chain) {
  catalog->publish(chain);
  for (const BlockId block : chain) {
    for (std::uint32_t g = 0; g < groups; ++g) {
      const Placement& placement = catalog->placement(block, g);
      if (placement.dram.valid()) {
        metrics.dram_blocks.add();
        metrics.dram_bytes.add(slot_bytes[g]);
      }
      if (placement.nvme.valid()) {
        metrics.nvme_blocks.add();
        metrics.nvme_bytes.add(slot_bytes[g]);
      }
    }
  }
}

Result<BlockId> NamespaceState::insert(const Catalog::NewBlock& block) {
  Result<BlockId> prepared = catalog->prepare(block);
  if (prepared) publish({&*prepared, 1});
  return prepared;
}

bool NamespaceState::removable(BlockId block) const {
  const Node& node = catalog->node(block);
  return node.children == 0 && node.leases == 0 &&
         (node.flags & (kNodeLive | kNodePinned)) == kNodeLive;
}

void NamespaceState::take_slots(std::span<const Placement> placements, Removal& removal) {
  for (std::size_t i = 0; i < placements.size(); ++i) {
    const std::uint64_t bytes = slot_bytes[i % groups];
    const Placement& placement = placements[i];
    if (placement.dram.valid()) {
      removal.dram.push_back(placement.dram);
      removal.bytes += bytes;
      metrics.dram_blocks.sub();
      metrics.dram_bytes.sub(bytes);
      if ((placement.flags & kDirty) != 0) {
        metrics.dirty_bytes.sub(bytes);
        services.metrics.dirty_bytes.sub(bytes);
      }
    }
    if (placement.nvme.valid()) {
      removal.nvme.push_back(placement.nvme);
      removal.bytes += bytes;
      metrics.nvme_blocks.sub();
      metrics.nvme_bytes.sub(bytes);
    }
  }
}

void NamespaceState::remove(BlockId block, Removal& removal) {
  if (pinned(block)) unpin(block, removal);
  const Key key = catalog->key(block);
  const auto write = writes.find(block);
  const bool known_to_journal =
      journaled(block) || stale_slots.contains(block) ||
      (write != writes.end() && write->second.state == BlockWrite::State::kSubmitted);
  if (known_to_journal) {
    removal.ops.push_back({JournalTable::kBlocks, block_key(id, block), std::nullopt});
    take_stale_slots(block, removal);
  }
  if (names.erase_label(key)) {
    removal.ops.push_back({JournalTable::kLabels, label_key(id, key), std::nullopt});
  }
  removal.keys.push_back(key);
  ++removal.blocks;
  finish_flush_waiters(block, {}, removal);

  const BlockId parent = catalog->parent(block);
  std::vector<Placement> freed;
  if (catalog->remove(block, freed)) {
    take_slots(freed, removal);
    clear_gpu(block, removal);
    if (known_to_journal) {
      removal.ids.push_back(block);
    } else {
      catalog->recycle(block);
    }
    return;
  }
  // Doomed. A write that only waits for its parent's is of no use any more; the parent may be gone,
  // and its id another block's, before it would be looked at again.
  if (write == writes.end() || write->second.state != BlockWrite::State::kWritten) return;
  const auto [begin, end] = waiting_for_parent.equal_range(parent);
  for (auto at = begin; at != end; ++at) {
    if (at->second != block) continue;
    waiting_for_parent.erase(at);
    break;
  }
  const BlockWrite abandoned = write->second;
  writes.erase(write);
  for (std::uint32_t g = 0; g < groups; ++g) {
    if (!abandoned.slots[g].valid()) continue;
    removal.nvme_now.push_back(abandoned.slots[g]);
    end_io(block, g, removal);
  }
  if (abandoned.held) release({&block, 1}, removal);
}

bool NamespaceState::nowhere(BlockId block) const {
  for (std::uint32_t g = 0; g < groups; ++g) {
    const Placement& placement = catalog->placement(block, g);
    if (placement.dram.valid() || placement.nvme.valid()) return false;
  }
  return true;
}

std::uint64_t NamespaceState::evict_leaf(BlockId leaf, Removal& removal) {
  std::uint64_t evicted = 0;
  for (BlockId at = leaf; at != kNoBlock && removable(at) && (at == leaf || nowhere(at));) {
    const BlockId parent = catalog->parent(at);
    remove(at, removal);
    ++evicted;
    at = parent;
  }
  return evicted;
}

// Blocks know their parents, not their children: from every leaf, and from above every root, the
// way up is walked to where it is known whether it follows a root. Each live block is visited once.
std::uint64_t NamespaceState::remove_with_followers(std::span<const BlockId> roots,
                                                    Removal& removal) {
  enum class Side : std::uint8_t { kUnknown, kBelow, kApart };
  std::vector<BlockId> below(roots.begin(), roots.end());
  bool all_leaves = true;
  for (const BlockId root : roots) all_leaves = all_leaves && catalog->node(root).children == 0;
  if (!all_leaves) {
    std::vector<Side> side(catalog->high(), Side::kUnknown);
    for (const BlockId root : roots) side[root] = Side::kBelow;
    std::vector<BlockId> path;
    const auto walk_up = [&](BlockId at) NO_THREAD_SAFETY_ANALYSIS {
      path.clear();
      for (; at != kNoBlock && side[at] == Side::kUnknown; at = catalog->parent(at)) {
        path.push_back(at);
      }
      const Side found = at == kNoBlock ? Side::kApart : side[at];
      for (const BlockId on_path : path) side[on_path] = found;
      if (found == Side::kBelow) below.insert(below.end(), path.begin(), path.end());
    };
    for (const BlockId leaf : catalog->leaf_list()) walk_up(leaf);
    for (const BlockId root : roots) walk_up(catalog->parent(root));
  }
  std::vector<std::pair<std::uint32_t, BlockId>> deepest_first;
  deepest_first.reserve(below.size());
  for (const BlockId block : below) deepest_first.emplace_back(catalog->depth(block), block);
  std::ranges::sort(deepest_first, std::ranges::greater{});
  for (const auto& [depth, block] : deepest_first) remove(block, removal);
  return below.size();
}

JournalOp NamespaceState::journal_record(BlockId block, const BlockWrite* write) const {
  const Node& node = catalog->node(block);
  const BlockHead head{.key = catalog->key(block),
                       .extra = catalog->extra(block),
                       .parent = catalog->parent(block),
                       .depth = catalog->depth(block),
                       .hits = node.hits,
                       .stored_at = node.stored_at,
                       .last_hit = node.last_hit,
                       .flags = (node.flags & kNodePinned) != 0 ? kBlockPinned : 0U,
                       .groups = groups,
                       .tokens = geometry.block_tokens};
  std::array<BlockGroup, kMaxGroups> stored{};
  for (std::uint32_t g = 0; g < groups; ++g) {
    const Placement& placement = catalog->placement(block, g);
    const bool written = write != nullptr && write->slots[g].valid();
    stored[g] = {written ? write->slots[g] : placement.nvme, placement.checksum};
  }
  return {JournalTable::kBlocks, block_key(id, block),
          encode_block(head, std::span(stored).first(groups), catalog->tokens(block))};
}

// -- flushing

void NamespaceState::finish_flush_waiters(BlockId block, const Status& status, Removal& removal) {
  if (flush_waiters.empty()) return;
  const auto [begin, end] = flush_waiters.equal_range(block);
  for (auto at = begin; at != end; ++at) {
    if (!status || at->second->count_down()) removal.finished.push_back({at->second, status});
  }
  flush_waiters.erase(begin, end);
}

}  // namespace kvfs::store
