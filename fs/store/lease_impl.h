// LeaseImpl: an open prefix.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fs/store/namespace_state.h"
#include "fs/store/store.h"

namespace kvfs::store {

// A lease uses a range of its blocks: those keep their place in DRAM. The others are held, too, but
// may be demoted to NVMe (NamespaceState::idle_holds). An ordinary lease uses all of them but those
// that its holder is done with. A prefix that takes more than half of DRAM streams through: its
// lease uses what its holder has asked for and is not done with, and reads ahead no further than a
// window.
//
// Owns: its hold on every block of the prefix.
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
  [[nodiscard]] std::span<const BlockId> ids() const { return ids_; }

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
  // The range that is used takes in [first, first + count).
  void use(std::uint32_t first, std::uint32_t count) REQUIRES(state_->mutex);
  void set_idle(std::uint32_t first, std::uint32_t last, bool idle) REQUIRES(state_->mutex);
  // Reads on for a lease that streams, as its holder goes on.
  void read_ahead() REQUIRES(state_->mutex);
  const std::string& header();

  const NamespacePtr state_;
  const Key key_;
  const std::vector<BlockId> ids_;
  const PrefixLayout layout_;
  const std::shared_ptr<const void> alive_;  // promotions that only this lease wants end with it
  const std::uint32_t window_;               // blocks to read ahead; 0: it does not stream
  std::uint32_t used_begin_ GUARDED_BY(state_->mutex) = 0;
  std::uint32_t used_end_ GUARDED_BY(state_->mutex);
  std::array<std::uint32_t, kMaxGroups> wanted_end_ GUARDED_BY(state_->mutex){};  // by promote()
  std::string header_;  // made when it is first read
};

}  // namespace kvfs::store
