// LeaseImpl: an open prefix.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "fs/store/namespace_state.h"
#include "fs/store/store.h"

namespace kvfs::store {

// Owns: its hold on every block of the prefix. What it says to be done with may be taken out of
// DRAM by eviction all the same (NamespaceState::streamed), and is read in again when it is asked
// for again.
class LeaseImpl final : public Lease {
 public:
  // The blocks are held already.
  LeaseImpl(NamespacePtr state, const Key& key, std::vector<BlockId> ids,
            const PrefixLayout& layout);
  ~LeaseImpl() override;
  LeaseImpl(const LeaseImpl&) = delete;
  LeaseImpl& operator=(const LeaseImpl&) = delete;

  [[nodiscard]] const Key& key() const override { return key_; }
  [[nodiscard]] std::uint32_t blocks() const override {
    return static_cast<std::uint32_t>(ids_.size());
  }
  [[nodiscard]] const PrefixLayout& layout() const override { return layout_; }

  void count_hit() override;
  Result<std::uint32_t> extents(std::uint32_t group, std::uint32_t first,
                                std::span<Extent> out) override;
  Status promote(std::uint32_t group, std::uint32_t first, std::uint32_t count) override;
  void when_resident(std::uint32_t group, std::uint32_t first, std::uint32_t count,
                     Deadline deadline, Done done) override;
  void done_before(std::uint32_t block) override;
  Status read(std::uint64_t offset, std::uint64_t size, ReadPlan& plan, Missing& missing) override;
  void flush(Deadline deadline, Done done) override;

 private:
  friend class PlanBuilder;
  [[nodiscard]] Status check(std::uint32_t group, std::uint32_t first, std::uint32_t count) const;
  // Asks for what is missing of [first, first + count); returns how many blocks that is.
  std::size_t request(std::uint32_t group, std::uint32_t first, std::uint32_t count,
                      const WaiterPtr& waiter) REQUIRES(state_->mutex);
  // Blocks from `first` on are wanted (again).
  void want(std::uint32_t first) REQUIRES(state_->mutex);
  const std::string& header();

  const NamespacePtr state_;
  const Key key_;
  const std::vector<BlockId> ids_;
  const PrefixLayout layout_;
  const std::shared_ptr<const void> alive_;  // promotions that only this lease wants end with it
  std::uint32_t done_before_ GUARDED_BY(state_->mutex) = 0;
  std::string header_;  // made when it is first read
};

}  // namespace kvfs::store
