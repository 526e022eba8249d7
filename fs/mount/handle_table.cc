#include "fs/mount/handle_table.h"

#include <algorithm>

namespace kvfs::mount {

std::uint64_t HandleTable::add(HandlePtr handle) {
  const MutexLock lock(mutex_);
  const std::uint64_t number = next_++;
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
  return handle;
}

bool HandleTable::holds(fuse_ino_t nodeid) const {
  const MutexLock lock(mutex_);
  return std::ranges::any_of(handles_, [nodeid](const auto& numbered) {
    return numbered.second->inode()->nodeid == nodeid;
  });
}

void HandleTable::clear() {
  std::unordered_map<std::uint64_t, HandlePtr> all;
  const MutexLock lock(mutex_);
  all.swap(handles_);
}

std::size_t HandleTable::size() const {
  const MutexLock lock(mutex_);
  return handles_.size();
}

}  // namespace kvfs::mount
