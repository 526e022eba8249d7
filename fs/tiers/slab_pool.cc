#include "fs/tiers/slab_pool.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "fs/tiers/slot_addresses.h"

namespace kvfs::tiers {
namespace {

using Clock = std::chrono::steady_clock;

// Where there was no memory for a slab, until it is tried again; at once when a slab has gone.
constexpr std::chrono::seconds kGrowAgain{10};

}  // namespace

bool SlabPool::budget_left() const {
  return budgeted_ + slab_bytes_ <= capacity_ && next_id_ < SlotAddresses::kMaxSlabs;
}

bool SlabPool::may_grow() const {
  const MutexLock lock(mutex_);
  return making_ || budget_left();
}

tl::unexpected<Error> SlabPool::no_budget() const {
  return fail(Code::kNoSpace,
              fmt::format("all {} bytes of DRAM are in slabs with an owner", capacity_));
}

std::uint64_t SlabPool::missing() const {
  const MutexLock lock(mutex_);
  return capacity_ - budgeted_;
}

bool SlabPool::count(std::uint64_t bytes) {
  const MutexLock lock(mutex_);
  if (budgeted_ + bytes > capacity_) return false;
  budgeted_ += bytes;
  return true;
}

void SlabPool::put(PooledSlab slab) {
  const MutexLock lock(mutex_);
  slabs_.push_back(std::move(slab));
}

std::optional<PooledSlab> SlabPool::take() {
  const MutexLock lock(mutex_);
  if (slabs_.empty()) return std::nullopt;
  PooledSlab slab = std::move(slabs_.back());
  slabs_.pop_back();
  return slab;
}

void SlabPool::gone(std::uint64_t bytes) {
  const MutexLock lock(mutex_);
  budgeted_ -= bytes;
  grow_again_ = {};
}

Status SlabPool::fill(const TouchProgress& progress) {
  std::vector<std::shared_ptr<SlabFile>> files;
  {
    const MutexLock lock(mutex_);
    while (budget_left()) {
      auto file = SlabFile::create(directory_.fd(), slab_file_name(next_id_), slab_bytes_);
      if (!file) return pass(std::move(file));
      budgeted_ += slab_bytes_;
      slabs_.push_back({next_id_++, *std::move(file)});
    }
    std::ranges::sort(slabs_, std::ranges::greater{}, &PooledSlab::id);
    for (const PooledSlab& slab : slabs_) files.push_back(slab.file);
  }
  Status touched = touch_all(files, progress);
  if (touched) toucher_.emplace();
  return touched;
}

// Its memory is taken while nobody else waits: that is a quarter of a second a GiB.
Status SlabPool::grow() {
  SlabId id = 0;
  {
    const MutexLock lock(mutex_);
    if (!budget_left()) return no_budget();
    if (Clock::now() < grow_again_) {
      return fail(Code::kNoSpace, "there was no memory for another DRAM slab a moment ago");
    }
    id = next_id_++;
    budgeted_ += slab_bytes_;
    making_ = true;
  }
  auto file = make(id);
  const MutexLock lock(mutex_);
  making_ = false;
  if (!file) {
    spdlog::warn("{}", file.error().message);
    budgeted_ -= slab_bytes_;
    grow_again_ = Clock::now() + kGrowAgain;
    return pass(std::move(file));
  }
  if (toucher_) toucher_->add(*file);
  slabs_.push_back({id, *std::move(file)});
  return {};
}

// Its file system is asked before: taking more than there is leaves nothing to others for a while.
Result<std::shared_ptr<SlabFile>> SlabPool::make(SlabId id) const {
  if (Status room = directory_.check_room(slab_bytes_, false); !room) return pass(std::move(room));
  auto file = SlabFile::create(directory_.fd(), slab_file_name(id), slab_bytes_);
  if (!file) return file;
  if (Status reserved = (*file)->reserve(); !reserved) {
    ignore_error((*file)->discard(), "it is removed at the next start");
    return pass(std::move(reserved));
  }
  return file;
}

}  // namespace kvfs::tiers
