#include "fs/store/promoter.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "fs/store/dram_space.h"
#include "fs/store/slab_registry.h"
#include "fs/sync_point.h"
#include "lib/format/checksum.h"

namespace kvfs::store {
namespace {

constexpr std::size_t kThreads = 2;
// Slots taken at once, so that they are adjacent where possible.
constexpr std::size_t kBatch = 16;
// Failures further apart tell of two times that the disk was away, not of the block.
constexpr std::chrono::minutes kFailsAgain{5};

}  // namespace

Promoter::Promoter(Services& services)
    : services_(services),
      last_good_(std::max<std::size_t>(services.options.nvme.directories.size(), 1)) {
  for (std::size_t i = 0; i < kThreads; ++i) threads_.emplace_back([this] { run(); });
}

void Promoter::stop() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void Promoter::request(NamespaceState& state, BlockOf block, const Interest& interest) {
  const auto [at, fresh] = state.promotions.try_emplace(block);
  Promotion& promotion = at->second;
  if (interest.waiter) promotion.waiters.push_back(interest.waiter);
  if (promotion.wanted_by.empty() || promotion.wanted_by.back().lock() != interest.lease.lock()) {
    promotion.wanted_by.push_back(interest.lease);
  }
  if (!fresh) return;
  promotion.since = Clock::now();
  state.begin_io(block.id, block.group);
  services_.metrics.promoted_blocks_queued.add();
  const MutexLock lock(mutex_);
  queue_.push_back({state.shared_from_this(), block});
  changed_.notify_one();
}

void Promoter::run() {
  MutexLock lock(mutex_);
  while (true) {
    if (may_begin()) {
      std::vector<Request> requests = take_requests();
      beginning_ = true;
      if (!ended_.empty()) changed_.notify_one();
      lock.unlock();
      begin(std::move(requests));
      lock.lock();
      beginning_ = false;
    } else if (!ended_.empty()) {
      Read read = std::move(ended_.front());
      ended_.pop_front();
      lock.unlock();
      end(read);
      read.state = nullptr;
      lock.lock();
      --in_flight_;
      changed_.notify_one();
    } else if (stopping_ && in_flight_ == 0) {
      changed_.notify_all();
      return;
    } else {
      changed_.wait(lock);
    }
  }
}

bool Promoter::may_begin() const {
  const std::size_t depth = services_.options.promote_depth;
  return !queue_.empty() && !beginning_ &&
         (stopping_ || (at_device_ < depth && in_flight_ < 2 * depth));
}

// From the front, as long as they are of one group of one namespace.
std::vector<Promoter::Request> Promoter::take_requests() {
  const std::size_t depth = std::max<std::size_t>(services_.options.promote_depth, at_device_ + 1);
  const std::size_t most = std::min(kBatch, depth - at_device_);
  std::vector<Request> taken;
  while (!queue_.empty() && taken.size() < most) {
    const Request& next = queue_.front();
    if (!taken.empty() &&
        (next.state != taken.front().state || next.block.group != taken.front().block.group)) {
      break;
    }
    taken.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  at_device_ += taken.size();
  in_flight_ += taken.size();
  return taken;
}

// Those that somebody waits for or has a lease on, and that are to be read; the others end here.
std::vector<Promoter::Read> Promoter::still_wanted(std::vector<Request>& requests) {
  bool stopping = false;
  {
    const MutexLock lock(mutex_);
    stopping = stopping_;
  }
  std::vector<Read> reads;
  const NamespacePtr& state = requests.front().state;
  Removal removal;
  {
    const MutexLock lock(state->mutex);
    for (const Request& request : requests) {
      const Promotion& promotion = state->promotions.at(request.block);
      const bool wanted =
          std::ranges::any_of(promotion.waiters, [](const auto& w) { return !w->finished(); }) ||
          std::ranges::any_of(promotion.wanted_by, [](const auto& w) { return !w.expired(); });
      const Placement& placement = state->catalog->placement(request.block.id, request.block.group);
      if (stopping) {
        finish(*state, request.block, fail(Code::kUnavailable, "the store is closing"), removal);
      } else if (!wanted) {
        finish(*state, request.block, {}, removal);
      } else if (!placement.nvme.valid()) {
        spdlog::warn("{} was wanted and is in no tier", state->describe(request.block.id));
        finish(*state, request.block,
               fail(Code::kCorrupt, state->describe(request.block.id) + " was lost"), removal);
      } else {
        reads.push_back({.state = state,
                         .block = request.block,
                         .nvme = placement.nvme,
                         .checksum = placement.checksum});
      }
    }
  }
  dispose(*state, std::move(removal));
  never_went(requests.size() - reads.size());
  return reads;
}

void Promoter::begin(std::vector<Request> requests) {
  std::vector<Read> reads = still_wanted(requests);
  if (reads.empty()) return;
  NamespaceState& state = *reads.front().state;
  const std::uint32_t group = reads.front().block.group;
  if (!services_.nvme_reads.may_try()) {
    fail_reads(reads, {Code::kIo, "the NVMe tier is out of use after repeated errors"});
    return;
  }
  std::vector<tiers::DramSlot> slots(reads.size());
  const auto got = services_.dram_space->allocate_some(state, group, slots);
  const std::size_t have = got ? *got : 0;
  if (have < reads.size()) {
    fail_reads(
        std::span(reads).subspan(have),
        got ? Error{Code::kNoSpace, "DRAM is full of blocks that may not leave"} : got.error());
    reads.resize(have);
  }
  {
    const MutexLock lock(state.mutex);
    for (std::size_t i = 0; i < reads.size(); ++i) {
      reads[i].dram = slots[i];
      const BlockOf block = reads[i].block;
      const std::uint16_t kept = state.catalog->placement(block.id, group).flags & kHasChecksum;
      state.set_dram(block.id, group, slots[i], static_cast<std::uint16_t>(kept | kPromoting));
    }
  }
  KVFS_SYNC_POINT("promoter:reading");
  const auto now = Clock::now();
  for (Read& read : reads) {
    read.begun = now;
    services_.slab_registry->ensure(read.dram.slab);
    const std::span memory(services_.dram->address(read.dram), state.slot_bytes[group]);
    services_.nvme->read(read.nvme, memory, [this, read](Status status) mutable {
      read.status = std::move(status);
      came_back(std::move(read));
    });
  }
}

void Promoter::fail_reads(std::span<const Read> reads, const Error& error) {
  if (reads.empty()) return;
  NamespaceState& state = *reads.front().state;
  Removal removal;
  {
    const MutexLock lock(state.mutex);
    for (const Read& read : reads) finish(state, read.block, tl::unexpected(error), removal);
  }
  dispose(state, std::move(removal));
  never_went(reads.size());
}

void Promoter::end(Read& read) {
  NamespaceState& state = *read.state;
  const std::uint32_t group = read.block.group;
  if (read.status) {
    services_.nvme_reads.succeeded();
    const std::span bytes(services_.dram->address(read.dram), state.stored_bytes[group]);
    if (block_checksum(bytes) != read.checksum) {
      read.status = fail(Code::kCorrupt, "its bytes on NVMe do not have its checksum");
    }
  } else {
    services_.nvme_reads.failed(read.status.error().message);
  }
  const bool is_lost = lost(read);
  Removal removal;
  {
    const MutexLock lock(state.mutex);
    if (read.status) {
      publish(state, read.block, removal);
    } else {
      give_up(state, read.block, read.status.error(), is_lost, removal);
    }
  }
  KVFS_SYNC_POINT("promoter:published");
  dispose(state, std::move(removal));
}

void Promoter::publish(NamespaceState& state, BlockOf block, Removal& removal) {
  Placement& placement = state.catalog->placement(block.id, block.group);
  placement.flags = static_cast<std::uint16_t>(placement.flags & ~kPromoting);
  state.catalog->refresh(block.id);
  state.count_promoted(block.group);
  services_.metrics.promote_latency.observe(Clock::now() - state.promotions.at(block).since);
  finish(state, block, {}, removal);
}

// A block whose bytes are bad is of no use, nor is what follows it. One that only cannot be read
// may well come back with its disk: it is lost when it soon fails again though its disk has given
// others since.
bool Promoter::lost(const Read& read) {
  const bool corrupt = !read.status && read.status.error().code == Code::kCorrupt;
  const std::uint64_t slot = std::uint64_t{read.nvme.segment} << 32 | read.nvme.slot;
  const MutexLock lock(mutex_);
  Clock::time_point& last_good = last_good_[read.nvme.segment % last_good_.size()];
  if (read.status || corrupt) {
    last_good = std::max(last_good, read.begun);
    if (!failed_.empty()) failed_.erase(slot);
    return corrupt;
  }
  if (read.status.error().code != Code::kIo) return false;
  const Failure now{read.checksum, Clock::now()};
  const auto [at, inserted] = failed_.try_emplace(slot, now);
  Failure& first = at->second;
  if (first.checksum != now.checksum || now.at - first.at > kFailsAgain) first = now;
  if (inserted || last_good <= first.at) return false;
  failed_.erase(at);
  return true;
}

void Promoter::give_up(NamespaceState& state, BlockOf block, const Error& error, bool is_lost,
                       Removal& removal) {
  const std::string what = state.describe(block.id);
  removal.dram.push_back(state.clear_dram(block.id, block.group));
  if (is_lost && state.live(block.id)) {
    const std::uint64_t dropped = state.remove_with_followers({&block.id, 1}, removal);
    const bool corrupt = error.code == Code::kCorrupt;
    (corrupt ? state.metrics.evicted_corrupt : state.metrics.evicted_io_error).add(dropped);
    spdlog::error("{}: {}; dropped with the {} blocks that follow it", what, error.message,
                  dropped - 1);
  }
  finish(state, block, fail(error.code, what + ": " + error.message), removal);
}

void Promoter::finish(NamespaceState& state, BlockOf block, const Status& status,
                      Removal& removal) {
  const auto at = state.promotions.find(block);
  for (WaiterPtr& waiter : at->second.waiters) {
    if (!status || waiter->count_down()) removal.finished.push_back({std::move(waiter), status});
  }
  state.promotions.erase(at);
  services_.metrics.promoted_blocks_queued.sub();
  state.end_io(block.id, block.group, removal);
}

void Promoter::came_back(Read read) {
  const MutexLock lock(mutex_);
  --at_device_;
  ended_.push_back(std::move(read));
  changed_.notify_one();
}

void Promoter::never_went(std::size_t reads) {
  const MutexLock lock(mutex_);
  at_device_ -= reads;
  in_flight_ -= reads;
  changed_.notify_one();
}

}  // namespace kvfs::store
