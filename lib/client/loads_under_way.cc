#include "lib/client/loads_under_way.h"

#include <algorithm>
#include <utility>

namespace kvfs::client {

LoadsUnderWay::Progress::Progress(LoadsUnderWay& loads, std::uint32_t first_block) : loads_(loads) {
  const std::lock_guard lock(loads_.mutex_);
  place_ = loads_.places_.insert(loads_.places_.end(), {.next_block = first_block});
}

LoadsUnderWay::Progress::~Progress() {
  const std::lock_guard lock(loads_.mutex_);
  loads_.places_.erase(place_);
  loads_.copied_.notify_all();  // under the lock: the lease may go when this has gone
}

void LoadsUnderWay::Progress::is_at(std::uint32_t block) {
  const std::lock_guard lock(loads_.mutex_);
  place_->next_block = block;
}

void LoadsUnderWay::Progress::wants_from(std::uint32_t block) {
  const std::lock_guard lock(loads_.mutex_);
  place_->next_block = std::min(place_->next_block, block);
}

void LoadsUnderWay::Progress::only_copies() {
  const std::lock_guard lock(loads_.mutex_);
  place_->only_copies = true;
}

Result<std::uint32_t> LoadsUnderWay::let_go(const std::function<Status(std::uint32_t)>& tell) {
  std::unique_lock lock(mutex_);
  copied_.wait(lock, [this] { return std::ranges::none_of(places_, &Place::only_copies); });
  if (places_.empty()) return 0U;
  const std::uint32_t before =
      std::ranges::min_element(places_, {}, &Place::next_block)->next_block;
  if (before == 0) return 0U;
  have_let_go_ = true;
  if (Status told = tell(before); !told) return pass(std::move(told));
  return before;
}

bool LoadsUnderWay::have_let_go() const {
  const std::lock_guard lock(mutex_);
  return have_let_go_;
}

}  // namespace kvfs::client
