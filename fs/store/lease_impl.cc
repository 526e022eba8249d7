#include "fs/store/lease_impl.h"

#include <fmt/format.h>

#include <algorithm>

#include "fs/store/promoter.h"
#include "fs/store/write_back.h"

namespace kvfs::store {

LeaseImpl::LeaseImpl(NamespacePtr state, const Key& key, std::vector<BlockId> ids,
                     const PrefixLayout& layout)
    : state_(std::move(state)),
      key_(key),
      ids_(std::move(ids)),
      layout_(layout),
      alive_(std::make_shared<char>()) {}

LeaseImpl::~LeaseImpl() {
  Removal removal;
  {
    const MutexLock lock(state_->mutex);
    want(0);
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

void LeaseImpl::want(std::uint32_t first) {
  while (done_before_ > first) {
    const auto at = state_->streamed.find(ids_[--done_before_]);
    if (--at->second == 0) state_->streamed.erase(at);
  }
}

void LeaseImpl::done_before(std::uint32_t block) {
  const MutexLock lock(state_->mutex);
  for (const std::uint32_t end = std::min(block, blocks()); done_before_ < end; ++done_before_) {
    ++state_->streamed[ids_[done_before_]];
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
    want(first);
    while (filled < most && state_->resident(ids_[first + filled], group)) {
      const tiers::DramSlot slot = state_->catalog->placement(ids_[first + filled], group).dram;
      out[filled++] = {slot.slab, slot.slot};
    }
  }
  state_->metrics.loaded_bytes.add(filled * state_->block_bytes[group]);
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
  want(first);
  request(group, first, count, nullptr);
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
    want(first);
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
  if (over) done(std::move(lost));
}

void LeaseImpl::flush(Deadline deadline, Done done) {
  if (state_->services.write_back == nullptr) return done({});
  state_->services.write_back->flush(*state_, ids_, deadline, std::move(done));
}

}  // namespace kvfs::store
