// GpuPromoter: brings copies of hot blocks into the GPU tier, and takes them away again.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <thread>
#include <vector>

#include "fs/mutex.h"
#include "fs/store/namespace_state.h"

namespace kvfs::store {

// A prefix that is leased for the kHits-th time and is not all there is copied from DRAM, block by
// block from the first. Where the tier is full, blocks worth less (eviction_value) leave, of the
// same namespace and group one by one, of others a slab at a time. A block that is leased keeps its
// slot. When the device has less memory left than the reserve, slabs are given up, leased or not: a
// client reads on in what it has mapped, and the memory goes with the last descriptor. A device
// that fails is left alone for good. In all of that blocks remain below, so nobody misses one.
//
// Threads: one of its own does all copying and choosing; other calls from any thread, with no
//          namespace locked.
// Owns:    what is queued. Slots belong to the blocks (NamespaceState::on_gpu).
// Blocks:  stop() for the block being copied; retire_all() and remove_retired() for the device.
// Errors:  logged and counted: the tier is a cache of what is below.
class GpuPromoter {
 public:
  static constexpr std::uint32_t kHits = 2;

  explicit GpuPromoter(Services& services);
  ~GpuPromoter() { stop(); }
  GpuPromoter(const GpuPromoter&) = delete;
  GpuPromoter& operator=(const GpuPromoter&) = delete;

  void want(const NamespacePtr& state, const Key& tip);
  // Goes on with slabs that are retiring: clients have closed.
  void remove_retired();
  // Of a namespace that is gone: all its slabs.
  void retire_all(const NamespaceState& state);
  [[nodiscard]] std::uint32_t queued() const;  // prefixes
  void stop();

 private:
  struct Wanted {
    std::weak_ptr<NamespaceState> state;
    std::uint32_t namespace_id;
    Key tip;
  };
  void run();
  void promote(NamespaceState& state, const Key& tip);
  // Blocks of the chain from `next` on that are in DRAM and not on the GPU, with I/O begun.
  std::vector<BlockId> next_blocks(NamespaceState& state, std::uint32_t group,
                                   std::span<const BlockId> chain, std::size_t& next);
  // false: there is no room for this block, or for good no device.
  bool copy(NamespaceState& state, BlockId block, std::uint32_t group);
  Result<tiers::GpuSlot> take_slot(NamespaceState& state, BlockId block, std::uint32_t group);
  bool evict_below(NamespaceState& state, std::uint32_t group, double value);
  bool retire_below(const NamespaceState& needy, std::uint32_t group, double value);
  void retire(const tiers::GpuSlabView& slab);
  void relieve_if_due();
  void relieve();
  void give_up(const Error& error);
  [[nodiscard]] bool stopping() const;

  Services& services_;
  // Of the thread.
  bool lost_ = false;  // the device failed
  Clock::time_point next_look_;
  Clock::time_point content_until_;
  mutable Mutex mutex_;
  CondVar changed_;
  std::deque<Wanted> wanted_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: it uses the rest
};

}  // namespace kvfs::store
