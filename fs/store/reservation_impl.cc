#include "fs/store/reservation_impl.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "fs/store/dram_space.h"
#include "fs/store/quarantine.h"
#include "fs/store/write_back.h"
#include "fs/sync_point.h"
#include "gpu/block_codec.h"

namespace kvfs::store {

ReservationState::ReservationState(NamespacePtr state, std::uint64_t id)
    : state_(std::move(state)), id_(id) {
  state_->metrics.reservations_open.add();
}

ReservationState::~ReservationState() {
  std::vector<tiers::DramSlot> slots;
  std::uint64_t bytes = 0;
  Removal removal;
  {
    const MutexLock lock(mutex_);
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      if (!slots_[i].valid()) continue;
      slots.push_back(slots_[i]);
      bytes += state_->slot_bytes[i % state_->groups];
    }
    const MutexLock state_lock(state_->mutex);
    hold_instead(kNoBlock, removal);
  }
  state_->services.quarantine->add(std::move(slots), bytes);
  state_->metrics.reservations_open.sub();
  dispose(*state_, std::move(removal));
}

std::uint32_t ReservationState::blocks() const {
  const MutexLock lock(mutex_);
  return static_cast<std::uint32_t>(chain_.size());
}

std::span<tiers::DramSlot> ReservationState::slots_of(std::uint32_t block) {
  return std::span(slots_).subspan(std::size_t{block} * state_->groups, state_->groups);
}

Extent ReservationState::extent_of(std::size_t slot) const {
  if (!slots_[slot].valid()) return {kSlabPresent, 0};
  return {slots_[slot].slab, slots_[slot].slot};
}

void ReservationState::hold_instead(BlockId block, Removal& removal) {
  if (block != kNoBlock) state_->hold({&block, 1});
  if (held_ != kNoBlock) state_->release({&held_, 1}, removal);
  held_ = block;
}

Status ReservationState::check(std::span<const Token> tokens, std::span<const ExtraAt> extras,
                               std::span<const Extent> extents) const {
  const std::uint32_t block_tokens = state_->geometry.block_tokens;
  if (tokens.empty() || tokens.size() % block_tokens != 0) {
    return fail(Code::kInvalid,
                fmt::format("{} tokens are not whole blocks of {}", tokens.size(), block_tokens));
  }
  const std::size_t count = tokens.size() / block_tokens;
  if (extents.size() != count * state_->groups) {
    return fail(Code::kInvalid, fmt::format("{} extents for {} blocks of {} groups", extents.size(),
                                            count, state_->groups));
  }
  const auto negative = std::ranges::find_if(tokens, [](Token token) { return token < 0; });
  if (negative != tokens.end()) {
    return fail(Code::kInvalid, fmt::format("token {} at position {} is negative", *negative,
                                            negative - tokens.begin()));
  }
  for (std::size_t i = 0; i < extras.size(); ++i) {
    if (extras[i].block >= count || (i != 0 && extras[i].block <= extras[i - 1].block)) {
      return fail(Code::kInvalid,
                  fmt::format("the extra of block {} is out of order, or not of these "
                              "{} blocks",
                              extras[i].block, count));
    }
  }
  return {};
}

Status ReservationState::reserve(const Key& parent, std::span<const Token> tokens,
                                 std::span<const ExtraAt> extras, std::span<Extent> extents,
                                 Deadline give_up) {
  const auto start = Clock::now();
  if (Status valid = check(tokens, extras, extents); !valid) return valid;
  const MutexLock lock(mutex_);
  room_made_ = state_->services.room_waiters.times_made();
  if (chain_.size() + tokens.size() / state_->geometry.block_tokens > kMaxPrefixBlocks) {
    return fail(Code::kInvalid, fmt::format("a prefix has at most {} blocks", kMaxPrefixBlocks));
  }
  auto addition = plan(parent, tokens, extras);
  if (!addition) return pass(std::move(addition));
  if (Status taken = take_slots(*addition, give_up); !taken) return taken;
  const std::size_t before = slots_.size();
  if (!begun_) parent_ = parent;
  begun_ = true;
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  chain_.insert(chain_.end(), addition->blocks.begin(), addition->blocks.end());
  slots_.insert(slots_.end(), addition->slots.begin(), addition->slots.end());
  left_out_.resize(slots_.size());
  for (std::size_t i = 0; i < extents.size(); ++i) extents[i] = extent_of(before + i);
  state_->services.metrics.reserve_latency.observe(Clock::now() - start);
  return {};
}

// Which blocks are to be written. A slot to be taken is marked by slab 0.
Result<ReservationState::Addition> ReservationState::plan(const Key& parent,
                                                          std::span<const Token> tokens,
                                                          std::span<const ExtraAt> extras) {
  const std::uint32_t block_tokens = state_->geometry.block_tokens;
  const std::size_t count = tokens.size() / block_tokens;
  Addition addition;
  addition.blocks.resize(count);
  addition.slots.resize(count * state_->groups);
  Key last = !chain_.empty()    ? chain_.back().key
             : parent.is_zero() ? state_->geometry.seed()
                                : parent;
  auto extra = extras.begin();
  for (std::size_t i = 0; i < count; ++i) {
    Block& block = addition.blocks[i];
    if (extra != extras.end() && extra->block == i) block.extra = (extra++)->extra;
    block.key = last = chain_key(last, tokens.subspan(i * block_tokens, block_tokens), block.extra);
  }

  Removal removal;
  {
    const MutexLock lock(state_->mutex);
    if (state_->removed)
      return fail(Code::kNotFound, "namespace " + state_->name() + " was removed");
    BlockId stored = held_;
    if (!begun_ && !parent.is_zero()) {
      stored = state_->catalog->find(parent);
      if (stored == kNoBlock) {
        return fail(Code::kNotFound, "the parent " + to_hex(parent) +
                                         " is not cached in namespace " + state_->name() +
                                         ": match again and store from there");
      }
    }
    bool all_stored = true;  // what follows a block that is not stored cannot be
    for (std::size_t i = 0; i < count; ++i) {
      const BlockId id = all_stored ? state_->catalog->find(addition.blocks[i].key) : kNoBlock;
      all_stored = id != kNoBlock;
      if (all_stored) stored = id;
      for (std::uint32_t g = 0; g < state_->groups; ++g) {
        const bool has = all_stored && (state_->catalog->placement(id, g).dram.valid() ||
                                        state_->catalog->placement(id, g).nvme.valid());
        if (!has) addition.slots[i * state_->groups + g] = {0, 0};
      }
    }
    if (stored != held_) hold_instead(stored, removal);
  }
  dispose(*state_, std::move(removal));
  return addition;
}

Status ReservationState::take_slots(Addition& addition, Deadline give_up) {
  DramSpace& space = *state_->services.dram_space;
  std::vector<tiers::DramSlot> taken;
  for (std::uint32_t g = 0; g < state_->groups; ++g) {
    std::vector<std::size_t> wanted;
    for (std::size_t i = g; i < addition.slots.size(); i += state_->groups) {
      if (addition.slots[i].valid()) wanted.push_back(i);
    }
    std::vector<tiers::DramSlot> slots(wanted.size());
    if (Status got = space.allocate(*state_, g, slots, give_up); !got) {
      space.free(taken);
      return got;
    }
    for (std::size_t i = 0; i < wanted.size(); ++i) addition.slots[wanted[i]] = slots[i];
    taken.insert(taken.end(), slots.begin(), slots.end());
  }
  return {};
}

void ReservationState::when_room(Deadline deadline, Done done) {
  std::uint64_t seen = 0;
  {
    const MutexLock lock(mutex_);
    seen = room_made_;
  }
  state_->services.room_waiters.when_made(seen, deadline, std::move(done));
}

void ReservationState::withdraw(std::uint32_t blocks) {
  std::vector<tiers::DramSlot> slots;
  {
    const MutexLock lock(mutex_);
    const std::size_t kept = chain_.size() - blocks;
    slots.assign(slots_.begin() + static_cast<std::ptrdiff_t>(kept * state_->groups), slots_.end());
    std::erase_if(slots, [](const tiers::DramSlot& slot) { return !slot.valid(); });
    chain_.resize(kept);
    tokens_.resize(kept * state_->geometry.block_tokens);
    slots_.resize(kept * state_->groups);
    left_out_.resize(slots_.size());
  }
  state_->services.dram_space->free(slots);
}

std::uint32_t ReservationState::extents(std::uint32_t first, std::span<Extent> out) {
  const MutexLock lock(mutex_);
  if (first >= chain_.size()) return 0;
  const std::size_t blocks = std::min(chain_.size() - first, out.size() / state_->groups);
  for (std::size_t i = 0; i < blocks * state_->groups; ++i) {
    out[i] = extent_of(std::size_t{first} * state_->groups + i);
  }
  return static_cast<std::uint32_t>(blocks * state_->groups);
}

std::byte* ReservationState::address(std::uint32_t block, std::uint32_t group) {
  const MutexLock lock(mutex_);
  if (block >= chain_.size() || group >= state_->groups) return nullptr;
  const tiers::DramSlot slot = slots_of(block)[group];
  return slot.valid() ? state_->services.dram->address(slot) : nullptr;
}

void ReservationState::leave_out(std::uint32_t block, std::uint32_t group) {
  tiers::DramSlot slot;
  {
    const MutexLock lock(mutex_);
    if (block >= chain_.size() || group >= state_->groups) return;
    const std::size_t at = std::size_t{block} * state_->groups + group;
    slot = std::exchange(slots_[at], {});
    left_out_[at] = left_out_[at] || slot.valid();
  }
  if (slot.valid()) state_->services.dram_space->free({&slot, 1});
}

// -- commit
// ------------------------------------------------------------------------------------------

Result<Reservation::Committed> ReservationState::commit(std::uint32_t blocks) {
  const auto start = Clock::now();
  const MutexLock lock(mutex_);
  if (blocks > chain_.size()) {
    return fail(Code::kInvalid,
                fmt::format("{} blocks to commit of {} reserved", blocks, chain_.size()));
  }
  if (state_->packed()) blocks = count_refused(packed_end(blocks), blocks);
  const gpu::QuantizeErrors errors = errors_of(blocks);
  Publication done;
  if (blocks <= committed_) {
    done.result = {.committed = 0, .present = blocks, .tip = parent_};
    if (blocks != 0) done.result.tip = chain_[blocks - 1].key;
    return done.result;
  }
  Removal removal;
  Status published;
  bool index_replaced = false;
  {
    const MutexLock state_lock(state_->mutex);
    const std::uint64_t generation = state_->catalog->generation();
    published = still_possible(blocks);
    if (published) published = publish(blocks, done, removal);
    index_replaced = state_->catalog->generation() != generation;
  }
  KVFS_SYNC_POINT("reservation:committed");
  dispose(*state_, std::move(removal));
  state_->services.dram_space->free(done.lost);
  if (index_replaced && state_->services.listener != nullptr) {
    state_->services.listener->on_index_replaced(state_->id);
  }
  if (!published) return pass(std::move(published));
  done.result.tip = chain_[blocks - 1].key;
  state_->metrics.commits_total.add();
  state_->metrics.committed_blocks.add(done.result.committed);
  state_->metrics.largest_error.observe(errors.largest);
  state_->metrics.saturated_planes.add(errors.saturated_planes);
  state_->services.metrics.commit_latency.observe(Clock::now() - start);
  return done.result;
}

std::uint32_t ReservationState::packed_end(std::uint32_t end) const {
  for (std::uint32_t i = committed_; i < end; ++i) {
    for (std::uint32_t g = 0; g < state_->groups; ++g) {
      const tiers::DramSlot slot = slots_[std::size_t{i} * state_->groups + g];
      if (slot.valid() &&
          !gpu::block_fits(state_->shapes[g], state_->services.dram->address(slot))) {
        return i;
      }
    }
  }
  return end;
}

gpu::QuantizeErrors ReservationState::errors_of(std::uint32_t end) const {
  gpu::QuantizeErrors errors;
  if (!quantized(state_->geometry.encoding)) return errors;
  for (std::uint32_t i = committed_; i < end; ++i) {
    for (std::uint32_t g = 0; g < state_->groups; ++g) {
      const tiers::DramSlot slot = slots_[std::size_t{i} * state_->groups + g];
      if (!slot.valid()) continue;
      gpu::add_block_errors(state_->shapes[g], state_->services.dram->address(slot), errors);
    }
  }
  return errors;
}

std::uint32_t ReservationState::count_refused(std::uint32_t packed, std::uint32_t asked) {
  if (packed < asked && asked > refused_end_) {
    Counter& refused = state_->metrics.unpackable_blocks;
    if (refused.get() == 0) {
      spdlog::warn(
          "namespace {}: a block could not be packed: prefixes end before such blocks, which "
          "unpackable_blocks counts; where there are many of them, remove the namespace and create "
          "it with --encoding raw",
          state_->name());
    }
    refused.add(asked - std::max(packed, refused_end_));
    refused_end_ = asked;
  }
  return packed;
}

// The blocks before ours are there, and so is every block that we have no bytes for.
Status ReservationState::still_possible(std::uint32_t end) const {
  if (state_->removed) return fail(Code::kNotFound, "namespace " + state_->name() + " was removed");
  const Key before = committed_ == 0 ? parent_ : chain_[committed_ - 1].key;
  if (!before.is_zero() && state_->catalog->find(before) == kNoBlock) {
    return fail(Code::kNotFound,
                "the parent " + to_hex(before) + " was removed meanwhile: match again");
  }
  for (std::uint32_t i = committed_; i < end; ++i) {
    bool whole = true;
    for (std::size_t at = std::size_t{i} * state_->groups;
         at < (std::size_t{i} + 1) * state_->groups; ++at) {
      whole = whole && (slots_[at].valid() || left_out_[at]);
    }
    if (!whole && state_->catalog->find(chain_[i].key) == kNoBlock) {
      return fail(Code::kNotFound,
                  "block " + to_hex(chain_[i].key) +
                      " of the prefix, which was stored, was removed meanwhile: match "
                      "again");
    }
  }
  return {};
}

// What is stored of the chain is a part from its beginning on. The rest is prepared, and only when
// nothing can fail any more is it published, from the last block to the first, so that a match
// beside it finds all or nothing. Groups that stored blocks get back follow in that order too.
Status ReservationState::publish(std::uint32_t end, Publication& done, Removal& removal) {
  const Key before = committed_ == 0 ? parent_ : chain_[committed_ - 1].key;
  BlockId last = before.is_zero() ? kNoBlock : state_->catalog->find(before);
  std::vector<BlockId> stored;
  for (std::uint32_t i = committed_; i < end; ++i) {
    const BlockId found = done.inserted.empty() ? state_->catalog->find(chain_[i].key) : kNoBlock;
    if (found != kNoBlock) {
      stored.push_back(last = found);
      continue;
    }
    auto prepared = prepare(i, last);
    if (!prepared) {
      state_->catalog->discard(done.inserted);
      return pass(std::move(prepared));
    }
    done.inserted.push_back(last = *prepared);
  }
  state_->publish(done.inserted);
  for (auto i = static_cast<std::uint32_t>(stored.size()); i-- > 0;) {
    join_stored(committed_ + i, stored[i], done);
  }
  for (const BlockId id : done.inserted) count_stored(id);
  std::fill_n(slots_.begin() + std::ptrdiff_t{committed_} * state_->groups,
              std::ptrdiff_t{end - committed_} * state_->groups, tiers::DramSlot{});
  done.result.committed = static_cast<std::uint32_t>(done.inserted.size());
  committed_ = end;
  hold_instead(last, removal);
  return {};
}

void ReservationState::count_stored(BlockId id) {
  WriteBack* write_back = state_->services.write_back;
  for (std::uint32_t g = 0; g < state_->groups; ++g) {
    if (!state_->catalog->placement(id, g).dram.valid()) continue;  // left out
    state_->count_stored(g);
    if (write_back != nullptr) state_->mark_dirty(id, g);
  }
  if (write_back != nullptr) write_back->add(*state_, id);
}

// A block that was stored before, or that another writer committed first: our bytes are not needed,
// except for groups that had left it.
void ReservationState::join_stored(std::uint32_t block, BlockId id, Publication& done) {
  ++done.result.present;
  bool lost = false;
  bool added = false;
  for (std::uint32_t g = 0; g < state_->groups; ++g) {
    const tiers::DramSlot slot = std::exchange(slots_of(block)[g], {});
    if (!slot.valid()) continue;
    const Placement& placement = state_->catalog->placement(id, g);
    if (placement.dram.valid() || placement.nvme.valid()) {
      done.lost.push_back(slot);
      lost = true;
      continue;
    }
    state_->set_dram(id, g, slot, 0);
    state_->count_stored(g);
    if (state_->services.write_back != nullptr) state_->mark_dirty(id, g);
    added = true;
  }
  if (lost) state_->metrics.lost_races.add();
  if (added && state_->services.write_back != nullptr)
    state_->services.write_back->add(*state_, id);
}

Result<BlockId> ReservationState::prepare(std::uint32_t block, BlockId parent) {
  std::array<Placement, kMaxGroups> placements{};
  for (std::uint32_t g = 0; g < state_->groups; ++g) placements[g].dram = slots_of(block)[g];
  const std::uint32_t block_tokens = state_->geometry.block_tokens;
  return state_->catalog->prepare(
      {.parent = parent,
       .key = chain_[block].key,
       .extra = chain_[block].extra,
       .tokens = std::span(tokens_).subspan(std::size_t{block} * block_tokens, block_tokens),
       .placements = std::span(placements).first(state_->groups),
       .stored_at = wall_seconds(),
       .last_hit = wall_seconds()});
}

}  // namespace kvfs::store
