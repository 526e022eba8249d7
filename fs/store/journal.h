// Journal: what must survive the daemon, written by one thread that gathers what many ask for.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "fs/mutex.h"
#include "fs/store/journal_database.h"
#include "fs/store/store.h"
#include "fs/tiers/block_tier.h"

namespace kvfs::store {

// Changes that become durable together.
struct JournalBatch {
  std::vector<JournalOp> ops;
  bool after_sync = false;  // they name slots of the NVMe tier: its data must be durable first
  Done done;                // may be empty
};

// A round: take all that was submitted; sync the NVMe tier if any of it needs that; one LMDB
// transaction; call each `done`. So a record never names bytes that a power cut could still take,
// and while one round is on its way to the disk the next one gathers.
//
// Order: batches are applied in the order in which they were submitted. That a record of a block
// comes after its parent's, and the erasure of a block after its record, rests on it.
//
// Threads: all calls from any thread; `done` runs on the journal's thread, must be short and may
//          submit, but not wait.
// Owns:    the database, the queue.
// Blocks:  commit() and wait() until durable, but not longer than a round may
//          take; stop() until all that was submitted is.
// Errors:  `done` gets what the tier's sync or LMDB said; nothing of the batch is durable then.
// After
//          stop(), kUnavailable, from within the call.
//          kTimeout when the disk does not answer: done in memory, and durable when it does.
class Journal {
 public:
  explicit Journal(std::unique_ptr<JournalDatabase> database) : database_(std::move(database)) {}
  ~Journal() { stop(); }
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  // For recovery, before start().
  [[nodiscard]] JournalDatabase& database() { return *database_; }
  [[nodiscard]] const std::string& store_id() const { return database_->store_id(); }

  // `nvme` may be nullptr; must outlive stop(). A round that takes longer than `patience` is not
  // waited for, nor is anything behind it.
  void start(tiers::BlockTier* nvme, std::chrono::milliseconds patience);
  void submit(JournalBatch batch);
  Status commit(std::vector<JournalOp> ops);
  // For what `begin` submits with the Done it is given.
  Status wait(const std::function<void(Done)>& begin);
  void erase_namespace(std::uint32_t id, Done done);
  void stop();

 private:
  struct EraseNamespace {
    std::uint32_t id;
    Done done;
  };
  using Request = std::variant<JournalBatch, EraseNamespace>;

  [[nodiscard]] Deadline patience_ends();
  void enqueue(Request request);
  void run();
  void write(std::vector<Request>& requests);
  void write_batches(std::span<Request> requests);

  std::unique_ptr<JournalDatabase> database_;
  tiers::BlockTier* nvme_ = nullptr;
  std::chrono::milliseconds patience_{0};
  Mutex mutex_;  // lock order: namespace -> this
  CondVar changed_;
  std::vector<Request> queue_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::optional<Deadline> round_ends_ GUARDED_BY(mutex_);  // the one under way should
  std::thread thread_;
};

}  // namespace kvfs::store
