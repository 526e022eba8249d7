// ReservationImpl: blocks that are being written.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "fs/mutex.h"
#include "fs/store/namespace_state.h"
#include "fs/store/store.h"
#include "gpu/quantize_codec.h"

namespace kvfs::store {

// What all handles of one reservation share: the chain from its parent on, and a slot for each
// group of each block that was not stored when it was asked for.
//
// Threads: all calls from any thread.
// Owns:    the slots until commit, and a hold on the last block of its chain that is stored:
//          whatever is before that is no leaf.
// Blocks:  reserve(), while blocks are evicted.
// Errors:  as Reservation's.
class ReservationState {
 public:
  ReservationState(NamespacePtr state, std::uint64_t id);
  ~ReservationState();  // uncommitted slots go to quarantine
  ReservationState(const ReservationState&) = delete;
  ReservationState& operator=(const ReservationState&) = delete;

  [[nodiscard]] std::uint64_t id() const { return id_; }
  [[nodiscard]] std::uint32_t blocks() const;
  Status reserve(const Key& parent, std::span<const Token> tokens, std::span<const ExtraAt> extras,
                 std::span<Extent> extents, Deadline give_up);
  void when_room(Deadline deadline, Done done);
  void withdraw(std::uint32_t blocks);
  std::uint32_t extents(std::uint32_t first, std::span<Extent> out);
  std::byte* address(std::uint32_t block, std::uint32_t group);
  void leave_out(std::uint32_t block, std::uint32_t group);
  Result<Reservation::Committed> commit(std::uint32_t blocks);

 private:
  struct Block {
    Key key;
    Extra extra;
  };
  // Blocks that a call of reserve() adds.
  struct Addition {
    std::vector<Block> blocks;
    std::vector<tiers::DramSlot> slots;  // blocks * groups, block-major; invalid: stored already
  };
  // What a commit did under the lock, to be told and freed after it.
  struct Publication {
    Reservation::Committed result;
    std::vector<BlockId> inserted;
    std::vector<tiers::DramSlot> lost;  // another writer was first
    BlockId tip = kNoBlock;
  };

  [[nodiscard]] Status check(std::span<const Token> tokens, std::span<const ExtraAt> extras,
                             std::span<const Extent> extents) const;
  [[nodiscard]] Result<Addition> plan(const Key& parent, std::span<const Token> tokens,
                                      std::span<const ExtraAt> extras) REQUIRES(mutex_);
  Status take_slots(Addition& addition, Deadline give_up) REQUIRES(mutex_);
  void hold_instead(BlockId block, Removal& removal) REQUIRES(mutex_, state_->mutex);
  // Of blocks [committed_, end), the first that could not be packed; `end` if all could.
  [[nodiscard]] std::uint32_t packed_end(std::uint32_t end) const REQUIRES(mutex_);
  // What quantizing cost blocks [committed_, end).
  [[nodiscard]] gpu::QuantizeErrors errors_of(std::uint32_t end) const REQUIRES(mutex_);
  // Counts blocks [packed, asked) once; returns `packed`.
  std::uint32_t count_refused(std::uint32_t packed, std::uint32_t asked) REQUIRES(mutex_);
  [[nodiscard]] Status still_possible(std::uint32_t end) const REQUIRES(mutex_, state_->mutex);
  Status publish(std::uint32_t end, Publication& done, Removal& removal)
      REQUIRES(mutex_, state_->mutex);
  void count_stored(BlockId id) REQUIRES(mutex_, state_->mutex);
  void join_stored(std::uint32_t block, BlockId id, Publication& done)
      REQUIRES(mutex_, state_->mutex);
  Result<BlockId> prepare(std::uint32_t block, BlockId parent) REQUIRES(mutex_, state_->mutex);
  [[nodiscard]] Extent extent_of(std::size_t slot) const REQUIRES(mutex_);
  [[nodiscard]] std::span<tiers::DramSlot> slots_of(std::uint32_t block) REQUIRES(mutex_);

  const NamespacePtr state_;
  const std::uint64_t id_;
  mutable Mutex mutex_;  // lock order: this -> namespace
  bool begun_ GUARDED_BY(mutex_) = false;
  std::uint64_t room_made_ GUARDED_BY(mutex_) = 0;  // when reserve() last began
  Key parent_ GUARDED_BY(mutex_);                   // zero: from block 0
  std::vector<Token> tokens_ GUARDED_BY(mutex_);
  std::vector<Block> chain_ GUARDED_BY(mutex_);
  std::vector<tiers::DramSlot> slots_ GUARDED_BY(mutex_);
  std::vector<bool> left_out_ GUARDED_BY(mutex_);  // as slots_: to be published without it
  std::uint32_t committed_ GUARDED_BY(mutex_) = 0;
  std::uint32_t refused_end_ GUARDED_BY(mutex_) = 0;  // blocks counted as not to be packed end here
  BlockId held_ GUARDED_BY(mutex_) = kNoBlock;
};

class ReservationImpl final : public Reservation {
 public:
  explicit ReservationImpl(std::shared_ptr<ReservationState> shared) : shared_(std::move(shared)) {}
  [[nodiscard]] std::uint64_t id() const override { return shared_->id(); }
  [[nodiscard]] std::uint32_t blocks() const override { return shared_->blocks(); }
  Status reserve(const Key& parent, std::span<const Token> tokens, std::span<const ExtraAt> extras,
                 std::span<Extent> extents, Deadline give_up) override {
    return shared_->reserve(parent, tokens, extras, extents, give_up);
  }
  void when_room(Deadline deadline, Done done) override {
    shared_->when_room(deadline, std::move(done));
  }
  void withdraw(std::uint32_t blocks) override { shared_->withdraw(blocks); }
  std::uint32_t extents(std::uint32_t first, std::span<Extent> out) override {
    return shared_->extents(first, out);
  }
  std::byte* address(std::uint32_t block, std::uint32_t group) override {
    return shared_->address(block, group);
  }
  void leave_out(std::uint32_t block, std::uint32_t group) override {
    shared_->leave_out(block, group);
  }
  Result<Committed> commit(std::uint32_t blocks) override { return shared_->commit(blocks); }

 private:
  const std::shared_ptr<ReservationState> shared_;
};

}  // namespace kvfs::store
