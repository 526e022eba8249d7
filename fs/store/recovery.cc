#include "fs/store/recovery.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>

#include "fs/make_directories.h"
#include "fs/store/quarantine.h"

namespace kvfs::store {

std::string Recovery::catalog_directory(const StoreOptions& options, std::uint32_t namespace_id) {
  return options.run_directory + "/namespaces/" + std::to_string(namespace_id);
}

Result<NamespacePtr> Recovery::make_state(Services& services, const NamespaceRecord& record,
                                          std::uint64_t expected_blocks) {
  const std::string directory = catalog_directory(services.options, record.id);
  if (Status made = make_directories(directory); !made) return pass(std::move(made));
  Catalog::Options options{.directory = directory,
                           .geometry = record.geometry,
                           .daemon_epoch = services.epoch,
                           .held_blocks = held_blocks(services, record.geometry)};
  while (options.initial_capacity < expected_blocks) options.initial_capacity *= 2;
  auto catalog = Catalog::create(options);
  if (!catalog) return pass(std::move(catalog));
  return std::make_shared<NamespaceState>(services, record, std::move(*catalog));
}

Result<std::vector<NamespacePtr>> Recovery::recover() {
  std::vector<NamespaceRecord> records;
  Status damaged;
  Status read = services_.journal->database().for_each(
      JournalTable::kNamespaces, {}, [&](std::string_view key, std::span<const std::byte> value) {
        std::uint64_t id = 0;
        std::memcpy(&id, key.data(), std::min(key.size(), sizeof id));
        auto record = decode_namespace(static_cast<std::uint32_t>(id),
                                       {reinterpret_cast<const char*>(value.data()), value.size()});
        if (record) {
          records.push_back(*std::move(record));
        } else {
          damaged = pass(std::move(record));
        }
        return damaged.has_value();
      });
  if (!read) return pass(std::move(read));
  if (!damaged) return pass(std::move(damaged));

  const std::uint64_t blocks = services_.journal->database().entries(JournalTable::kBlocks);
  std::vector<NamespacePtr> states;
  for (const NamespaceRecord& record : records) {
    auto state = make_state(services_, record, records.size() == 1 ? blocks : 0);
    if (!state) return pass(std::move(state));
    const MutexLock lock((*state)->mutex);
    Status loaded = load_blocks(**state);
    if (loaded) loaded = merge_dram(**state);
    if (loaded) loaded = load_names(**state);
    if (!loaded) return pass(std::move(loaded));
    states.push_back(*std::move(state));
  }
  quarantine_unclaimed();
  services_.dram->forget_survivors();
  if (Status finished = finish(states); !finished) return pass(std::move(finished));
  return states;
}

// Ids come in ascending order and a parent's is mostly lower than its child's; where ids were used
// again it is not, and those blocks wait until the others are in, then go by depth.
Status Recovery::load_blocks(NamespaceState& state) {
  struct Found {
    BlockId id = kNoBlock;
    BlockRecord record;  // views the database, valid within the reading transaction
  };
  const auto load = [&](const Found& found) NO_THREAD_SAFETY_ANALYSIS {
    if (!load_block(state, found.id, found.record)) drop(state.id, found.id);
  };
  std::vector<Found> orphans;
  const auto load_if_possible = [&](const Found& found) NO_THREAD_SAFETY_ANALYSIS {
    const BlockId parent = found.record.head().parent;
    if (parent == kNoBlock || (parent < state.catalog->high() && state.live(parent))) {
      load(found);
    } else {
      orphans.push_back(found);
    }
  };
  // Records on their way: each key's place in the index comes near while those before it are
  // loaded.
  constexpr std::size_t kAhead = 16;
  std::array<Found, kAhead> ahead;
  std::size_t seen = 0;
  const auto next = [&](std::string_view key,
                        std::span<const std::byte> value) NO_THREAD_SAFETY_ANALYSIS {
    if (namespace_of_key(key) != state.id) return false;
    const auto record = BlockRecord::parse(value, state.groups, state.geometry.block_tokens);
    if (!record) {
      drop(state.id, block_of_key(key));
      return true;
    }
    state.catalog->expect(record->head().key);
    Found& place = ahead[seen++ % kAhead];
    if (place.id != kNoBlock) load_if_possible(place);
    place = {block_of_key(key), *record};
    return true;
  };
  const auto rest = [&] {
    for (std::size_t i = 0; i < kAhead; ++i) {
      const Found& place = ahead[(seen + i) % kAhead];
      if (place.id != kNoBlock) load_if_possible(place);
    }
    std::ranges::sort(orphans, {}, [](const Found& f) { return f.record.head().depth; });
    std::ranges::for_each(orphans, load);
  };
  return services_.journal->database().for_each(JournalTable::kBlocks, block_key(state.id, 0), next,
                                                rest);
}

void Recovery::drop(std::uint32_t namespace_id, BlockId id) {
  dropped_.push_back({JournalTable::kBlocks, block_key(namespace_id, id), std::nullopt});
  ++counts_.dropped;
}

bool Recovery::load_block(NamespaceState& state, BlockId id, const BlockRecord& record) {
  const BlockHead& head = record.head();
  if (head.parent != kNoBlock &&
      (head.parent >= state.catalog->high() || !state.live(head.parent))) {
    return false;
  }
  std::array<Token, kMaxBlockTokens> memory;
  const std::span tokens(memory.data(), state.geometry.block_tokens);
  record.tokens(tokens);
  const Key before =
      head.parent == kNoBlock ? state.geometry.seed() : state.catalog->key(head.parent);
  if (chain_key(before, tokens, head.extra) != head.key) return false;

  std::array<Placement, kMaxGroups> placements{};
  bool whole = true;  // without what windows have passed, which may be all of it
  for (std::uint32_t g = 0; g < state.groups && whole; ++g) {
    const BlockGroup group = record.group(g);
    if (!group.slot.valid()) {
      whole = state.geometry.window_blocks(g) != 0;
      continue;
    }
    whole = services_.nvme->claim(group.slot, state.slot_bytes[g]).has_value();
    if (!whole) continue;
    placements[g].nvme = group.slot;
    placements[g].checksum = group.checksum;
    placements[g].flags = kHasChecksum;
  }
  const bool pinned = (head.flags & kBlockPinned) != 0;
  auto inserted = whole ? state.insert({.parent = head.parent,
                                        .key = head.key,
                                        .extra = head.extra,
                                        .tokens = tokens,
                                        .placements = std::span(placements).first(state.groups),
                                        .stored_at = head.stored_at,
                                        .hits = head.hits,
                                        .last_hit = head.last_hit,
                                        .flags = kNodeJournaled,
                                        .id = id})
                        : Result<BlockId>(fail(Code::kCorrupt, "part of it is in no tier"));
  if (!inserted) {
    for (const Placement& placement : placements) {
      if (placement.nvme.valid()) services_.nvme->free(placement.nvme);
    }
    return false;
  }
  if (pinned) state.pin(*inserted);
  ++counts_.on_nvme;
  return true;
}

// When all blocks are there: the label of one that did not survive goes with it.
Status Recovery::load_names(NamespaceState& state) {
  const std::string prefix = name_key(state.id, {});
  Status names = services_.journal->database().for_each(
      JournalTable::kNames, prefix,
      [&](std::string_view key, std::span<const std::byte> value) NO_THREAD_SAFETY_ANALYSIS {
        if (!key.starts_with(prefix)) return false;
        const std::string_view name = key.substr(prefix.size());
        Key target;
        if (const Status valid = check_name(name); !valid) {
          spdlog::warn("namespace {}: a name is not shown: {}", state.name(),
                       valid.error().message);
        } else if (value.size() == sizeof target) {
          std::memcpy(&target, value.data(), sizeof target);
          state.names.set(name, target);
        }
        return true;
      });
  if (!names) return names;
  return services_.journal->database().for_each(
      JournalTable::kLabels, prefix,
      [&](std::string_view key, std::span<const std::byte> value) NO_THREAD_SAFETY_ANALYSIS {
        if (!key.starts_with(prefix)) return false;
        const auto target = prefix_of_label_key(key);
        if (target && state.catalog->find(*target) != kNoBlock) {
          state.names.set_label(*target,
                                {reinterpret_cast<const char*>(value.data()), value.size()});
        } else {
          dropped_.push_back({JournalTable::kLabels, std::string(key), std::nullopt});
        }
        return true;
      });
}

// -- DRAM

Status Recovery::merge_dram(NamespaceState& state) {
  Status merged =
      state.catalog->survivors([&](const Catalog::Survivor& survivor)
                                   NO_THREAD_SAFETY_ANALYSIS { merge_block(state, survivor); });
  state.catalog->forget_survivors();
  return merged;
}

void Recovery::merge_block(NamespaceState& state, const Catalog::Survivor& survivor) {
  const BlockId id = state.catalog->find(survivor.key);
  if (id == kNoBlock) return add_survivor(state, survivor);
  for (std::uint32_t g = 0; g < state.groups; ++g) {
    const Placement& old = survivor.placements[g];
    if (!old.dram.valid() || state.catalog->placement(id, g).dram.valid()) continue;
    if (!services_.dram->claim(old.dram)) continue;
    const bool new_group = !state.catalog->placement(id, g).nvme.valid();
    state.set_dram(id, g, old.dram, 0);
    if (new_group && services_.nvme != nullptr) state.mark_dirty(id, g);
    ++counts_.in_dram;
  }
  if (state.dirty_anywhere(id)) {
    state.dirty.push_back({id, survivor.key, Clock::now()});
    ++counts_.dirty;
  }
}

// It was committed, but not written back: it is dirty again.
void Recovery::add_survivor(NamespaceState& state, const Catalog::Survivor& survivor) {
  const BlockId parent =
      survivor.parent.is_zero() ? kNoBlock : state.catalog->find(survivor.parent);
  const bool orphan = !survivor.parent.is_zero() && parent == kNoBlock;
  std::array<Placement, kMaxGroups> placements{};
  bool whole = !orphan;  // without what windows have passed, which may be all of it
  for (std::uint32_t g = 0; g < state.groups && whole; ++g) {
    const Placement& old = survivor.placements[g];
    if (old.dram.valid() && services_.dram->claim(old.dram)) {
      placements[g].dram = old.dram;
      placements[g].checksum = old.checksum;
      placements[g].flags = old.flags & kHasChecksum;
    } else {
      whole = state.geometry.window_blocks(g) != 0;
    }
  }
  Result<BlockId> inserted = fail(Code::kCorrupt, "its parent or part of it did not survive");
  if (whole) {
    inserted = state.insert({.parent = parent,
                             .key = survivor.key,
                             .extra = survivor.extra,
                             .tokens = survivor.tokens,
                             .placements = std::span(placements).first(state.groups),
                             .stored_at = survivor.node.stored_at,
                             .hits = survivor.node.hits,
                             .last_hit = survivor.node.last_hit});
  }
  if (!inserted) {
    for (const Placement& placement : placements) {
      if (placement.dram.valid()) services_.dram->free(placement.dram);
    }
    ++counts_.dropped;
    return;
  }
  if ((survivor.node.flags & kNodePinned) != 0) state.pin(*inserted);
  ++counts_.in_dram;
  if (services_.nvme == nullptr) return;
  for (std::uint32_t g = 0; g < state.groups; ++g) {
    if (placements[g].dram.valid()) state.mark_dirty(*inserted, g);
  }
  state.dirty.push_back({*inserted, survivor.key, Clock::now()});
  ++counts_.dirty;
}

// A writer that outlived the daemon may still be writing into slots that it had reserved. (Slabs of
// which nothing was claimed are removed: nobody gets their memory under the same mapping.)
void Recovery::quarantine_unclaimed() {
  for (const tiers::SlabView& slab : services_.dram->slabs()) {
    std::vector<tiers::DramSlot> unclaimed;
    for (std::uint32_t slot = 0; slab.used != 0 && slot < slab.slots; ++slot) {
      if (services_.dram->claim({slab.id, slot})) unclaimed.push_back({slab.id, slot});
    }
    const std::uint64_t bytes = unclaimed.size() * slab.slot_bytes;
    services_.quarantine->add(std::move(unclaimed), bytes);
  }
}

Status Recovery::finish(const std::vector<NamespacePtr>& states) {
  std::vector<const JournalOp*> ops;
  for (const JournalOp& op : dropped_) ops.push_back(&op);
  if (!ops.empty()) {
    if (Status erased = services_.journal->database().apply(ops); !erased) return erased;
  }
  // Files of namespaces that were removed, or of another store.
  std::error_code ignored;
  const std::filesystem::path catalogs(services_.options.run_directory + "/namespaces");
  for (const auto& entry : std::filesystem::directory_iterator(catalogs, ignored)) {
    const bool known = std::ranges::any_of(states, [&](const NamespacePtr& state) {
      return entry.path().filename() == std::to_string(state->id);
    });
    if (!known) std::filesystem::remove_all(entry.path(), ignored);
  }
  if (!states.empty()) {
    spdlog::info(
        "recovered {} namespaces: {} blocks on NVMe, {} in DRAM, {} to write back, {} dropped",
        states.size(), counts_.on_nvme, counts_.in_dram, counts_.dirty, counts_.dropped);
  }
  return {};
}

}  // namespace kvfs::store
