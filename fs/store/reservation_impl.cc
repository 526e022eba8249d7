#include "fs/store/reservation_impl.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "fs/store/dram_space.h"
#include "fs/store/quarantine.h"

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
    if (Status there = state_->is_there(); !there) return pass(std::move(there));
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
  Removal removal;
  {
    const MutexLock lock(mutex_);
    const std::size_t kept = chain_.size() - blocks;
    slots.assign(slots_.begin() + static_cast<std::ptrdiff_t>(kept * state_->groups), slots_.end());
    std::erase_if(slots, [](const tiers::DramSlot& slot) { return !slot.valid(); });
    chain_.resize(kept);
    tokens_.resize(kept * state_->geometry.block_tokens);
    slots_.resize(kept * state_->groups);
    left_out_.resize(slots_.size());
    if (kept == 0) {  // the next one may begin elsewhere
      begun_ = false;
      parent_ = {};
      const MutexLock state_lock(state_->mutex);
      hold_instead(kNoBlock, removal);
    }
  }
  dispose(*state_, std::move(removal));
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

}  // namespace kvfs::store
