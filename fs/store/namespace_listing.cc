// Finding and listing prefixes.
#include <algorithm>

#include "fs/store/namespace_impl.h"

namespace kvfs::store {

// The nearest block before `id` where prefixes part, or kNoBlock.
BlockId NamespaceImpl::branch_above(BlockId id) const {
  const Catalog& catalog = *state_->catalog;
  BlockId at = catalog.parent(id);
  while (at != kNoBlock && catalog.node(at).children < 2) at = catalog.parent(at);
  return at;
}

PrefixInfo NamespaceImpl::info(BlockId tip) const {
  Catalog& catalog = *state_->catalog;
  const Node& node = catalog.node(tip);
  PrefixInfo info{.key = catalog.key(tip),
                  .blocks = catalog.depth(tip) + 1,
                  .hits = node.hits,
                  .stored_at = node.stored_at,
                  .last_hit = node.last_hit,
                  .leases = state_->held_by_others(tip) - (state_->pinned(tip) ? 1 : 0),
                  .leaf = node.children == 0,
                  .pinned = state_->pinned(tip)};
  info.file_bytes = layouts_.get(info.blocks).file_bytes;
  info.label = state_->names.label(info.key);
  const BlockId parent = catalog.parent(tip);
  if (parent != kNoBlock) info.parent = catalog.key(parent);
  bool own = node.children == 0;
  for (BlockId at = tip; at != kNoBlock; at = catalog.parent(at)) {
    own = own && (at == tip || catalog.node(at).children == 1);
    bool in_dram = true;
    bool on_nvme = true;
    bool on_gpu = !state_->on_gpu.empty();
    for (std::uint32_t g = 0; g < state_->groups; ++g) {
      const Placement& placement = catalog.placement(at, g);
      if (!placement.dram.valid() && !placement.nvme.valid()) continue;
      in_dram = in_dram && state_->resident(at, g);
      on_nvme = on_nvme && placement.nvme.valid();
      on_gpu = on_gpu && state_->on_gpu.contains({at, g});
      (own ? info.own_bytes : info.shared_bytes) += state_->slot_bytes[g];
    }
    info.gpu_blocks += on_gpu ? 1 : 0;
    info.dram_blocks += in_dram ? 1 : 0;
    info.nvme_blocks += on_nvme ? 1 : 0;
  }
  return info;
}

std::optional<PrefixInfo> NamespaceImpl::find(const Key& key) const {
  const MutexLock lock(state_->mutex);
  const BlockId id = state_->catalog->find(key);
  if (id == kNoBlock) return std::nullopt;
  return info(id);
}

bool NamespaceImpl::contains(const Key& key) const {
  const MutexLock lock(state_->mutex);
  return state_->catalog->find(key) != kNoBlock;
}

// Prefixes are closed under shortening: a binary search.
std::uint32_t NamespaceImpl::match(std::span<const Key> keys) const {
  const MutexLock lock(state_->mutex);
  const auto end =
      std::ranges::partition_point(keys, [&](const Key& key) NO_THREAD_SAFETY_ANALYSIS {
        return state_->catalog->find(key) != kNoBlock;
      });
  return static_cast<std::uint32_t>(end - keys.begin());
}

void NamespaceImpl::list(std::uint64_t cookie, std::size_t max,
                         std::vector<PrefixEntry>& out) const {
  if (cookie >= kNoBlock) return;
  std::vector<BlockId> ids;
  BlockId next = kNoBlock;
  const MutexLock lock(state_->mutex);
  state_->catalog->leaves(static_cast<BlockId>(cookie), max, ids, next);
  for (const BlockId id : ids) out.push_back({state_->catalog->key(id), std::uint64_t{id} + 1});
}

void NamespaceImpl::tree(std::uint64_t cookie, std::size_t max,
                         std::vector<std::pair<PrefixInfo, std::uint64_t>>& out) const {
  const MutexLock lock(state_->mutex);
  const Catalog& catalog = *state_->catalog;
  for (std::uint64_t id = cookie; id < catalog.high() && max > 0; ++id) {
    const auto block = static_cast<BlockId>(id);
    if (!state_->live(block) || catalog.node(block).children == 1) continue;
    PrefixInfo node = info(block);
    const BlockId branch = branch_above(block);
    node.parent = branch == kNoBlock ? Key{} : catalog.key(branch);
    out.emplace_back(std::move(node), id + 1);
    --max;
  }
}

Result<std::vector<Token>> NamespaceImpl::tokens(const Key& key) const {
  const MutexLock lock(state_->mutex);
  const BlockId tip = state_->catalog->find(key);
  if (tip == kNoBlock) return tl::unexpected(not_cached(key));
  std::vector<BlockId> chain;
  state_->catalog->chain(tip, chain);
  std::vector<Token> tokens;
  tokens.reserve(chain.size() * state_->geometry.block_tokens);
  for (const BlockId id : chain) {
    const auto block = state_->catalog->tokens(id);
    tokens.insert(tokens.end(), block.begin(), block.end());
  }
  return tokens;
}

}  // namespace kvfs::store
