#include "fs/plain/evictor.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace kvfs::plain {
namespace {

using SteadyClock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kTick{50};
constexpr std::chrono::seconds kCountAgain{10};

constexpr std::uint64_t low_mark(std::uint64_t quota, std::uint64_t wanted) {
  return std::min(quota - quota / 8, quota - std::min(quota, wanted));
}

}  // namespace

void Evictor::start() {
  thread_ = std::thread([this] { run(); });
}

void Evictor::stop() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

std::uint64_t Evictor::quota_of(const Directory& directory) const {
  const std::uint64_t own = directory.quota();
  return own == 0 ? quota_ : std::min(own, quota_);
}

std::uint64_t Evictor::bytes() const {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(0, *total_));
}

bool Evictor::has_room(const Directory& directory, std::uint64_t more) const {
  return directory.bytes() + more <= quota_of(directory) && bytes() + more <= quota_;
}

void Evictor::look() {
  const MutexLock lock(mutex_);
  look_ = true;
  changed_.notify_all();
}

void Evictor::watch_writers() {
  if (!watching_.exchange(true)) look();
}

bool Evictor::wait_for_room(const Directory& directory, std::uint64_t more,
                            SteadyClock::time_point deadline) {
  if (more > quota_of(directory)) return false;
  MutexLock lock(mutex_);
  while (!has_room(directory, more)) {
    const std::uint64_t next = passes_begun_ + 1;
    look_ = true;
    std::uint64_t& wanted = wanted_[directory.id()];
    wanted = std::max(wanted, more);
    changed_.notify_all();
    while (passes_ended_ < next && !has_room(directory, more) && !stopping_ &&
           SteadyClock::now() < deadline)
      changed_.wait_until(lock, deadline);
    if (has_room(directory, more)) return true;
    if (stopping_ || SteadyClock::now() >= deadline) return false;
    changed_.wait_until(lock, std::min(deadline, SteadyClock::now() + kTick));  // for a close
  }
  return true;
}

bool Evictor::wait_for_work(bool soon) {
  MutexLock lock(mutex_);
  const auto until = soon ? SteadyClock::now() + kTick : count_again_at_;
  while (!look_ && !stopping_ && SteadyClock::now() < until) changed_.wait_until(lock, until);
  look_ = false;
  ++passes_begun_;
  wanted_now_ = std::exchange(wanted_, {});
  return !stopping_;
}

void Evictor::run() {
  first_scan();
  bool writers = false;
  while (wait_for_work(writers || held_back_)) {
    watching_ = false;
    held_back_ = false;
    writers = target_.count_writers() != 0;
    if (writers) watching_ = true;
    relieve();
    if (SteadyClock::now() >= count_again_at_) count_again();
    target_.keep_bytes();
    const MutexLock lock(mutex_);
    passes_ended_ = passes_begun_;
    changed_.notify_all();
  }
}

Evictor::Count Evictor::count(const Directory& directory,
                              const std::function<bool(const FoundFile&)>& stays) const {
  Count count{.changes = directory.changes()};
  const Status status = scan(root_, directory.name(), stopping_, [&](const FoundFile& file) {
    if (!stays(file)) return;
    count.bytes += counted_bytes(static_cast<std::uint64_t>(file.status.st_size));
    ++count.files;
  });
  if (!status) spdlog::error("plain directories: {}", status.error().message);
  // What the walk has seen of a file that is new or growing is a change of the directory.
  target_.catch_up();
  count.whole = status.has_value() && !stopping_;
  return count;
}

// What is made and removed meanwhile makes the sum wrong, until count_again() finds a quiet moment.
void Evictor::first_scan() {
  const auto begin = SteadyClock::now();
  for (const DirectoryPtr& directory : target_.directories()) {
    if (directory->exact()) continue;  // made in this life
    std::vector<std::pair<std::string, std::uint64_t>> incomplete;
    const Count found = count(*directory, [&](const FoundFile& file) {
      if (!target_.is_incomplete(file)) return true;
      incomplete.emplace_back(file.path, file.status.st_ino);
      return false;
    });
    if (stopping_) return;
    // Only now: its subdirectory may go with it, and all that is in that was counted.
    for (const auto& [path, inode] : incomplete)
      target_.lose(directory, path, inode, 0, Loss::kIncomplete);
    if (!found.whole || !directory->set_usage(found.bytes, found.files, found.changes))
      directory->add_found(found.bytes, found.files, found.whole);
    const MutexLock lock(mutex_);
    changed_.notify_all();  // it may have more room than was assumed
  }
  target_.keep_bytes();
  count_again_at_ = SteadyClock::now() + kCountAgain + 20 * (SteadyClock::now() - begin);
}

void Evictor::count_again() {
  const auto begin = SteadyClock::now();
  for (const DirectoryPtr& directory : target_.directories()) {
    if (directory->exact()) continue;
    const Count found = count(*directory, [](const FoundFile&) { return true; });
    if (found.whole) directory->set_usage(found.bytes, found.files, found.changes);
  }
  count_again_at_ = SteadyClock::now() + kCountAgain + 20 * (SteadyClock::now() - begin);
}

void Evictor::relieve() {
  std::uint64_t most = 0;
  for (const DirectoryPtr& directory : target_.directories()) {
    const auto found = wanted_now_.find(directory->id());
    const std::uint64_t here = found == wanted_now_.end() ? 0 : found->second;
    most = std::max(most, here);
    const std::uint64_t quota = quota_of(*directory);
    if (directory->bytes() + here > high_mark(quota)) relieve(directory, low_mark(quota, here));
  }
  if (bytes() + most > high_mark(quota_)) relieve_all(low_mark(quota_, most));
}

void Evictor::relieve(const DirectoryPtr& directory, std::uint64_t target) {
  while (directory->bytes() > target && evict_one(directory)) {
  }
}

// From the directory whose next candidate was not used for longest.
void Evictor::relieve_all(std::uint64_t target) {
  auto directories = target_.directories();
  while (bytes() > target && !directories.empty()) {
    std::erase_if(directories, [this](const DirectoryPtr& directory) {
      return candidates_[directory->id()].empty() && !find_candidates(directory);
    });
    const auto oldest = std::ranges::min_element(directories, {}, [this](const auto& directory) {
      return candidates_[directory->id()].front().used;
    });
    if (oldest != directories.end()) evict_one(*oldest);
  }
}

// False when there is nothing that may go.
bool Evictor::evict_one(const DirectoryPtr& directory) {
  auto& candidates = candidates_[directory->id()];
  if (candidates.empty() && !find_candidates(directory)) return false;
  const Candidate candidate = std::move(candidates.front());
  candidates.pop_front();
  if (candidate.whole)
    target_.lose_subdirectory(directory, candidate.path, candidate.used);
  else
    target_.lose(directory, candidate.path, candidate.inode, candidate.used, Loss::kEvicted);
  return true;
}

// At most once a pass and directory: what the last scan found and could not go will not go now.
bool Evictor::find_candidates(const DirectoryPtr& directory) {
  std::uint64_t pass = 0;
  {
    const MutexLock lock(mutex_);
    pass = passes_begun_;
  }
  if (std::exchange(scanned_[directory->id()], pass) == pass) return false;
  Candidates oldest(directory->unit(),
                    [&](const std::string& name) { return target_.asked(directory, name); });
  const Count found = count(*directory, [&](const FoundFile& file) {
    oldest.add(file);
    return true;
  });
  if (found.whole) directory->set_usage(found.bytes, found.files, found.changes);
  auto& candidates = candidates_[directory->id()];
  for (Candidate& candidate : oldest.take()) candidates.push_back(std::move(candidate));
  held_back_ = held_back_ || oldest.held_back();
  return !candidates.empty() && !stopping_;
}

}  // namespace kvfs::plain
