#include "fs/mount/import_table.h"

#include <fmt/format.h>

#include "fs/mount/import.h"

namespace kvfs::mount {

Status ImportTable::add(std::uint32_t namespace_id, const std::string& name,
                        std::shared_ptr<Import> import) {
  Dropped dropped;
  const MutexLock lock(mutex_);
  dropped = drop_expired();
  if (imports_.try_emplace({namespace_id, name}, std::move(import)).second) return {};
  return fail(Code::kExists, fmt::format("{} is being copied in by somebody else", name));
}

std::shared_ptr<Import> ImportTable::find(std::uint32_t namespace_id, const std::string& name) {
  Dropped dropped;
  const MutexLock lock(mutex_);
  dropped = drop_expired();
  const auto found = imports_.find({namespace_id, name});
  return found == imports_.end() ? nullptr : found->second;
}

std::shared_ptr<Import> ImportTable::take(std::uint32_t namespace_id, const std::string& name) {
  const MutexLock lock(mutex_);
  const auto found = imports_.find({namespace_id, name});
  if (found == imports_.end()) return nullptr;
  auto import = std::move(found->second);
  imports_.erase(found);
  return import;
}

void ImportTable::remove(std::uint32_t namespace_id, const Import& import) {
  const MutexLock lock(mutex_);
  auto place = imports_.lower_bound({namespace_id, ""});
  while (place != imports_.end() && place->first.first == namespace_id) {
    place = place->second.get() == &import ? imports_.erase(place) : std::next(place);
  }
}

std::string ImportTable::name_of(std::uint32_t namespace_id, const Import& import) const {
  const MutexLock lock(mutex_);
  for (auto place = imports_.lower_bound({namespace_id, ""});
       place != imports_.end() && place->first.first == namespace_id; ++place) {
    if (place->second.get() == &import) return place->first.second;
  }
  return {};
}

bool ImportTable::rename(std::uint32_t namespace_id, const std::string& from,
                         const std::string& to) {
  const MutexLock lock(mutex_);
  const auto found = imports_.find({namespace_id, from});
  if (found == imports_.end()) return false;
  auto import = std::move(found->second);
  imports_.erase(found);
  imports_[{namespace_id, to}] = std::move(import);
  return true;
}

std::vector<std::pair<std::string, std::shared_ptr<Import>>> ImportTable::list(
    std::uint32_t namespace_id) {
  std::vector<std::pair<std::string, std::shared_ptr<Import>>> list;
  Dropped dropped;
  const MutexLock lock(mutex_);
  dropped = drop_expired();
  for (auto place = imports_.lower_bound({namespace_id, ""});
       place != imports_.end() && place->first.first == namespace_id; ++place) {
    if (!place->second->settled()) list.emplace_back(place->first.second, place->second);
  }
  return list;
}

ImportTable::Dropped ImportTable::drop_expired() {
  Dropped dropped;
  for (auto place = imports_.begin(); place != imports_.end();) {
    if (!place->second->expired()) {
      ++place;
      continue;
    }
    dropped.push_back(std::move(place->second));
    place = imports_.erase(place);
  }
  return dropped;
}

void ImportTable::clear() {
  std::map<Place, std::shared_ptr<Import>> all;
  const MutexLock lock(mutex_);
  all.swap(imports_);
}

}  // namespace kvfs::mount
