// SlabMover: memory moves between namespaces (and groups) a slab at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "fs/mutex.h"
#include "fs/store/namespace_state.h"

namespace kvfs::store {

// A slab is taken from its owner like this: no more slots of it are handed out (retire), its blocks
// leave, the owner's index tells clients to unmap it, and when its last slot is free and the last
// client's descriptor is closed its file is removed and its bytes are budget again.
//
// Threads: all calls from any thread, with no namespace locked.
// Owns:    nothing: retiring slabs are the tier's.
// Blocks:  while it looks through the catalogs; removing a slab's file.
// Errors:  none to report: a slab that cannot go stays retiring and is tried again.
class SlabMover {
 public:
  explicit SlabMover(Services& services) : services_(services) {}

  // Only a slab without blocks, which its owner was provided with or has evicted all of.
  bool take_empty(const NamespaceState& needy, std::uint32_t group);
  // For a namespace that cannot make room by itself. True: budget is free now.
  bool take_any(const NamespaceState& needy, std::uint32_t group);
  // Only a slab whose blocks are worth less than half of those of `needy`.
  bool take_less_valuable(const NamespaceState& needy, std::uint32_t group);
  // Goes on with slabs that are retiring: their blocks may have been released, or clients have
  // closed.
  bool remove_retired();
  // Of a namespace that is gone: all its slabs.
  void retire_all(const NamespaceState& state);
  // Bytes of retiring slabs that clients still have open.
  [[nodiscard]] std::uint64_t waiting_for_clients() const;

 private:
  // What the blocks of a slab are worth, and whether all of them can leave.
  struct Worth {
    double value = 0;
    std::uint32_t blocks = 0;
    std::uint32_t kept = 0;
  };
  struct Choice {
    tiers::SlabView slab;
    double mean_value;
  };
  bool take(const NamespaceState& needy, std::uint32_t group, double below);
  // While clients have not closed the last slab that was taken, taking another one that they have
  // open only shrinks the tier.
  [[nodiscard]] bool may_take_opened() const REQUIRES(choosing_);
  bool finish_move(const tiers::SlabView& slab, const NamespaceState& needy);
  [[nodiscard]] std::optional<Choice> choose(tiers::SlabOwner needy, bool opened_too) const;
  [[nodiscard]] bool may_leave(const NamespaceState& state, BlockId id, std::uint32_t group) const;
  void empty(const tiers::SlabView& slab);
  bool remove(const tiers::SlabView& slab);

  Services& services_;
  Mutex choosing_;  // two must not choose the same slab; lock order: this -> namespace
};

}  // namespace kvfs::store
