#include "fs/store/prefetches.h"

#include <utility>

namespace kvfs::store {
namespace {

constexpr std::chrono::seconds kPrefetchTime{60};

// The prefix, or more of it.
bool begins_with(const LeaseImpl& longer, const LeaseImpl& prefix) {
  return prefix.blocks() <= longer.blocks() &&
         longer.ids()[prefix.blocks() - 1] == prefix.ids().back();
}

}  // namespace

void Prefetches::begin(std::shared_ptr<LeaseImpl> lease) {
  struct Part {
    std::uint32_t group, first, count;
  };
  std::vector<Part> parts;  // that nobody brings
  PrefetchPtr prefetch;
  std::shared_ptr<LeaseImpl> shorter;  // goes after the lock
  {
    const MutexLock lock(mutex_);
    for (std::uint32_t g = 0; g < lease->layout().groups; ++g) {
      for (std::uint32_t at = lease->layout().first_block[g]; at < lease->blocks(); ++at) {
        const auto found = under_way_.find({lease->ids()[at], g});
        if (found != under_way_.end()) {
          if (begins_with(*lease, *found->second->lease)) prefetch = found->second;
        } else if (!parts.empty() && parts.back().group == g &&
                   parts.back().first + parts.back().count == at) {
          ++parts.back().count;
        } else {
          parts.push_back({g, at, 1});
        }
      }
    }
    if (parts.empty()) return;
    if (prefetch == nullptr) prefetch = std::make_shared<Prefetch>();
    shorter = std::exchange(prefetch->lease, lease);
    prefetch->waits += parts.size();
    for (const Part& part : parts) {
      for (const BlockId id : lease->ids().subspan(part.first, part.count)) {
        prefetch->blocks.push_back({id, part.group});
        under_way_.emplace(BlockOf{id, part.group}, prefetch);
      }
    }
  }
  const Deadline deadline = Clock::now() + kPrefetchTime;
  for (const Part& part : parts) {
    lease->when_resident(
        part.group, part.first, part.count, deadline,
        [self = shared_from_this(), prefetch](const Status&) { self->end(*prefetch); });
  }
}

void Prefetches::end(Prefetch& prefetch) {
  std::shared_ptr<LeaseImpl> over;
  const MutexLock lock(mutex_);
  if (--prefetch.waits != 0) return;
  for (const BlockOf block : prefetch.blocks) under_way_.erase(block);
  over = std::move(prefetch.lease);
}

}  // namespace kvfs::store
