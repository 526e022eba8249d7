#include "fs/store/lease_impl.h"

#include <fmt/format.h>

#include <algorithm>

#include "fs/store/flush.h"
#include "fs/store/promoter.h"

namespace kvfs::store {
namespace {

// Blocks that a lease reads ahead when its prefix takes more than half of DRAM, else 0.
std::uint32_t stream_window(const NamespaceState& state, std::size_t blocks) {
  return blocks <= state.held_blocks ? 0 : std::max(1U, state.held_blocks / 4);
}

}  // namespace

LeaseImpl::LeaseImpl(NamespacePtr state, const Key& key, std::vector<BlockId> ids,
                     const PrefixLayout& layout)
    : state_(std::move(state)),
      key_(key),
      ids_(std::move(ids)),
      layout_(layout),
      alive_(std::make_shared<char>()),
      window_(stream_window(*state_, ids_.size())),
      used_end_(window_ == 0 ? blocks() : 0) {
  if (window_ == 0) return;
  const MutexLock lock(state_->mutex);
  set_idle(0, blocks(), true);
}

LeaseImpl::~LeaseImpl() {
  Removal removal;
  {
    const MutexLock lock(state_->mutex);
    set_idle(0, used_begin_, false);
    set_idle(used_end_, blocks(), false);
    state_->release(ids_, removal);
  }
  state_->metrics.leases_open.sub();
  if (!removal.empty()) dispose(*state_, std::move(removal));
}

Status LeaseImpl::check(std::uint32_t group, std::uint32_t first, std::uint32_t count) const {
  if (group >= state_->groups) {
    return fail(Code::kInvalid,
                fmt::format("group {} of a geometry with {}", group, state_->groups));
  }
  if (first > blocks() || count > blocks() - first) {
    return fail(Code::kInvalid, fmt::format("blocks {} to {} of a prefix with {}", first,
                                            std::uint64_t{first} + count, blocks()));
  }
  if (count != 0 && first < layout_.first_block[group]) {
    return fail(Code::kInvalid,
                fmt::format("block {} is outside the window of group {}, which begins "
                            "at block {} of this prefix",
                            first, group, layout_.first_block[group]));
  }
  return {};
}

void LeaseImpl::count_hit() {
  {
    const MutexLock lock(state_->mutex);
    state_->catalog->count_hit(ids_, wall_seconds());
  }
  state_->metrics.hit_blocks.add(blocks());
}

void LeaseImpl::set_idle(std::uint32_t first, std::uint32_t last, bool idle) {
  for (std::uint32_t i = first; i < last; ++i) {
    if (idle) {
      ++state_->idle_holds[ids_[i]];
    } else if (const auto at = state_->idle_holds.find(ids_[i]); --at->second == 0) {
      state_->idle_holds.erase(at);
    }
  }
}

void LeaseImpl::use(std::uint32_t first, std::uint32_t count) {
  if (count == 0) return;
  if (used_begin_ == used_end_) used_begin_ = used_end_ = first;
  if (first < used_begin_) {
    set_idle(first, used_begin_, false);
    used_begin_ = first;
  }
  if (first + count > used_end_) {
    set_idle(used_end_, first + count, false);
    used_end_ = first + count;
  }
}

void LeaseImpl::done_before(std::uint32_t block) {
  const MutexLock lock(state_->mutex);
  const std::uint32_t end = std::min(block, used_end_);
  if (end <= used_begin_) return;
  set_idle(used_begin_, end, true);
  used_begin_ = end;
  read_ahead();
}

void LeaseImpl::read_ahead() {
  if (window_ == 0) return;
  for (std::uint32_t g = 0; g < state_->groups; ++g) {
    const std::uint32_t end = std::min(wanted_end_[g], used_begin_ + window_);
    const std::uint32_t first = std::max(used_begin_, layout_.first_block[g]);
    if (first >= end) continue;
    use(first, end - first);
    request(g, first, end - first, nullptr);
  }
}

Result<std::uint32_t> LeaseImpl::extents(std::uint32_t group, std::uint32_t first,
                                         std::span<Extent> out) {
  if (auto valid = check(group, first, first < blocks() ? 1 : 0); !valid)
    return pass(std::move(valid));
  const std::size_t most = std::min<std::size_t>(out.size(), blocks() - first);
  std::uint32_t filled = 0;
  {
    const MutexLock lock(state_->mutex);
    while (filled < most && state_->resident(ids_[first + filled], group)) {
      const tiers::DramSlot slot = state_->catalog->placement(ids_[first + filled], group).dram;
      out[filled++] = {slot.slab, slot.slot};
    }
    use(first, filled);
  }
  state_->count_loaded(filled * state_->stored_bytes[group]);
  return filled;
}

std::size_t LeaseImpl::request(std::uint32_t group, std::uint32_t first, std::uint32_t count,
                               const WaiterPtr& waiter) {
  std::size_t missing = 0;
  for (const BlockId id : std::span(ids_).subspan(first, count)) {
    if (state_->resident(id, group)) continue;
    ++missing;
    state_->services.promoter->request(*state_, {id, group}, {.waiter = waiter, .lease = alive_});
  }
  return missing;
}

Status LeaseImpl::promote(std::uint32_t group, std::uint32_t first, std::uint32_t count) {
  if (auto valid = check(group, first, count); !valid) return valid;
  if (state_->services.promoter == nullptr) return {};
  const MutexLock lock(state_->mutex);
  if (window_ == 0) {
    use(first, count);
    request(group, first, count, nullptr);
  } else {
    wanted_end_[group] = std::max(wanted_end_[group], first + count);
    const std::uint32_t ahead = std::min(count, window_);
    use(first, ahead);
    request(group, first, ahead, nullptr);
  }
  return {};
}

void LeaseImpl::when_resident(std::uint32_t group, std::uint32_t first, std::uint32_t count,
                              Deadline deadline, Done done) {
  if (auto valid = check(group, first, count); !valid) return done(std::move(valid));
  WaiterPtr waiter;
  bool over = false;
  Status lost;
  {
    const MutexLock lock(state_->mutex);
    use(first, count);
    const auto ids = std::span(ids_).subspan(first, count);
    const auto missing = static_cast<std::size_t>(std::ranges::count_if(
        ids, [&](BlockId id) NO_THREAD_SAFETY_ANALYSIS { return !state_->resident(id, group); }));
    over = missing == 0;
    if (!over && state_->services.promoter == nullptr) {
      lost = fail(Code::kCorrupt, state_->describe(ids_.back()) + " was lost");
      over = true;
    }
    if (!over) {
      waiter = std::make_shared<Waiter>(std::move(done), missing);
      waiter->arm(state_->services.timer, deadline, "reading blocks from NVMe");
      request(group, first, count, waiter);
    }
  }
  if (over) done(std::move(lost));  // NOLINT(bugprone-use-after-move): moved where it is not over
}

void LeaseImpl::flush(Deadline deadline, Done done) {
  flush_blocks(*state_, ids_, deadline, std::move(done));
}

}  // namespace kvfs::store
