// ReservationState's commit: what was written becomes blocks.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "fs/store/dram_space.h"
#include "fs/store/reservation_impl.h"
#include "fs/store/write_back.h"
#include "fs/sync_point.h"
#include "gpu/block_codec.h"

namespace kvfs::store {

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
  {
    const MutexLock state_lock(state_->mutex);
    published = still_possible(blocks);
    if (published) published = publish(blocks, done, removal);
  }
  KVFS_SYNC_POINT("reservation:committed");
  dispose(*state_, std::move(removal));
  state_->services.dram_space->free(done.lost);
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
  if (Status there = state_->is_there(); !there) return there;
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
    // What was there before had other bytes; of a slot that is there the flags are believed.
    state_->catalog->placement(id, g).flags &= static_cast<std::uint16_t>(~kHasChecksum);
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
