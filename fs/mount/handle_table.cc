#include "fs/mount/handle_table.h"

#include <utility>

namespace kvfs::mount {

std::uint64_t HandleTable::add(HandlePtr handle) {
  const MutexLock lock(mutex_);
  const std::uint64_t number = next_++;
  ++open_[handle->inode()->nodeid];
  handles_.emplace(number, std::move(handle));
  return number;
}

HandlePtr HandleTable::get(std::uint64_t number) const {
  const MutexLock lock(mutex_);
  const auto found = handles_.find(number);
  return found == handles_.end() ? nullptr : found->second;
}

HandlePtr HandleTable::take(std::uint64_t number) {
  const MutexLock lock(mutex_);
  const auto found = handles_.find(number);
  if (found == handles_.end()) return nullptr;
  HandlePtr handle = std::move(found->second);
  handles_.erase(found);
  const auto open = open_.find(handle->inode()->nodeid);
  if (--open->second == 0) open_.erase(open);
  return handle;
}

bool HandleTable::holds(fuse_ino_t nodeid) const {
  const MutexLock lock(mutex_);
  return open_.contains(nodeid);
}

void HandleTable::clear() {
  std::unordered_map<std::uint64_t, HandlePtr> all;
  const MutexLock lock(mutex_);
  all.swap(handles_);
  open_.clear();
}

std::size_t HandleTable::size() const {
  const MutexLock lock(mutex_);
  return handles_.size();
}

}  // namespace kvfs::mount
