#include "fs/store/journal.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "fs/store/await.h"
#include "fs/sync_point.h"

namespace kvfs::store {

void Journal::start(tiers::BlockTier* nvme, std::chrono::milliseconds patience) {
  nvme_ = nvme;
  patience_ = patience;
  thread_ = std::thread([this] { run(); });
}

void Journal::enqueue(Request request) {
  {
    const MutexLock lock(mutex_);
    if (!stopping_) {
      queue_.push_back(std::move(request));
      if (queue_.size() == 1) changed_.notify_one();
      return;
    }
  }
  std::visit(
      [](auto& refused) {
        if (refused.done) refused.done(fail(Code::kUnavailable, "the store is closed"));
      },
      request);
}

void Journal::submit(JournalBatch batch) { enqueue(std::move(batch)); }

Deadline Journal::patience_ends() {
  const MutexLock lock(mutex_);
  return round_ends_.value_or(Clock::now() + patience_);
}

Status Journal::wait(const std::function<void(Done)>& begin) {
  const auto result = await_until(patience_ends(), begin);
  if (result) return *result;
  return fail(Code::kTimeout,
              "done, but the disk has not answered in time: it may not outlive a crash");
}

Status Journal::commit(std::vector<JournalOp> ops) {
  return wait([&](Done done) {
    submit({.ops = std::move(ops), .after_sync = false, .done = std::move(done)});
  });
}

void Journal::erase_namespace(std::uint32_t id, Done done) {
  enqueue(EraseNamespace{id, std::move(done)});
}

void Journal::stop() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

void Journal::run() {
  std::vector<Request> requests;
  MutexLock lock(mutex_);
  while (true) {
    while (queue_.empty() && !stopping_) changed_.wait(lock);
    if (queue_.empty()) return;
    requests.swap(queue_);
    round_ends_ = Clock::now() + patience_;
    lock.unlock();
    write(requests);
    requests.clear();
    lock.lock();
    round_ends_.reset();
  }
}

// Runs of batches become one transaction each; the erasure of a namespace is one of its own.
void Journal::write(std::vector<Request>& requests) {
  auto begin = requests.begin();
  while (begin != requests.end()) {
    const auto end = std::find_if(begin, requests.end(), [](const Request& request) {
      return std::holds_alternative<EraseNamespace>(request);
    });
    if (begin != end) write_batches({begin, end});
    if (end == requests.end()) return;
    const auto& erase = std::get<EraseNamespace>(*end);
    erase.done(database_->erase_namespace(erase.id));
    begin = end + 1;
  }
}

void Journal::write_batches(std::span<Request> requests) {
  KVFS_SYNC_POINT("journal:before_sync");
  Status synced;
  const bool sync = std::ranges::any_of(
      requests, [](const Request& request) { return std::get<JournalBatch>(request).after_sync; });
  if (sync && nvme_ != nullptr) synced = nvme_->sync();
  KVFS_SYNC_POINT("journal:before_commit");

  std::vector<const JournalOp*> ops;
  for (const Request& request : requests) {
    const auto& batch = std::get<JournalBatch>(request);
    if (batch.after_sync && !synced) continue;
    for (const JournalOp& op : batch.ops) ops.push_back(&op);
  }
  const Status applied = ops.empty() ? Status{} : database_->apply(ops);
  KVFS_SYNC_POINT("journal:after_commit");
  for (Request& request : requests) {
    auto& batch = std::get<JournalBatch>(request);
    if (batch.done) batch.done(batch.after_sync && !synced ? synced : applied);
  }
}

}  // namespace kvfs::store
