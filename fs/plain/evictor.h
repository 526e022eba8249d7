// Evictor: keeps plain directories within their quotas.
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "fs/mutex.h"
#include "fs/plain/candidates.h"
#include "fs/plain/directory.h"
#include "fs/plain/open_files.h"
#include "fs/plain/scan.h"
#include "fs/plain/tree.h"

namespace kvfs::plain {

// Of a quota: from here on somebody leaves.
constexpr std::uint64_t high_mark(std::uint64_t quota) { return quota - quota / 16; }

enum class Loss : std::uint8_t { kEvicted, kCorrupt, kIncomplete };

// What the evictor needs of the store.
class EvictionTarget {
 public:
  virtual ~EvictionTarget() = default;
  // Removes a file, if it is still that one (of that inode and, for kEvicted, not used since
  // `accessed`; for kIncomplete still without a record) and nobody has it open. True when it went.
  virtual bool lose(const DirectoryPtr& top, const std::string& path_below, std::uint64_t inode,
                    std::int64_t accessed, Loss loss) = 0;
  // Evicts a subdirectory with all that is in it, if none of that was used since `used` or is open.
  virtual bool lose_subdirectory(const DirectoryPtr& top, const std::string& name,
                                 std::int64_t used) = 0;
  // When somebody asked for a subdirectory, if that was within kInUse; else 0.
  [[nodiscard]] virtual std::int64_t asked(const DirectoryPtr& top, const std::string& name) = 0;
  [[nodiscard]] virtual std::vector<DirectoryPtr> directories() const = 0;
  // Counts what is being written; how many files that is.
  virtual std::size_t count_writers() = 0;
  // All that was made or written before this call is counted after it.
  virtual void catch_up() = 0;
  // What the directories have now is found by the next life, or nearly that after a crash.
  virtual void keep_bytes() = 0;
  // Whether a file found by the first scan was left by a writer who died.
  [[nodiscard]] virtual bool is_incomplete(const FoundFile& file) = 0;
};

// The least recently used files go, by their time of access on the file system below, which the
// daemon sets at each open; or whole subdirectories, by their last used file, where the directory's
// unit says so. A scan of a directory finds the oldest (Candidates::kMost of them), then they go
// one by one as room is wanted, each looked at again before; the next scan comes when they are used
// up. So nothing is kept in memory of the millions of files that are not about to go.
//
// A directory is relieved from 15/16 of its quota on, down to 7/8; all of them together likewise.
// Writers whom the kernel lets write directly are looked at every kTick: what they write in that
// time may be over the quota. A file is only made or opened for writing while there is room.
//
// Threads: all calls from any thread.
// Owns:    one thread, the candidates.
// Blocks:  wait_for_room(), stop().
// Errors:  wait_for_room(): false when there can be no such room, at once and with nothing evicted,
//          or the deadline passed.
class Evictor {
 public:
  Evictor(EvictionTarget& target, int root, std::uint64_t quota, TotalBytes total)
      : target_(target), root_(root), quota_(quota), total_(std::move(total)) {}
  ~Evictor() { stop(); }
  Evictor(const Evictor&) = delete;
  Evictor& operator=(const Evictor&) = delete;

  // Begins with a scan of everything, which counts it and drops what a crash left incomplete.
  void start();
  void stop();

  [[nodiscard]] std::uint64_t quota() const { return quota_; }
  [[nodiscard]] std::uint64_t quota_of(const Directory& directory) const;
  [[nodiscard]] std::uint64_t bytes() const;  // of all directories
  [[nodiscard]] bool has_room(const Directory& directory, std::uint64_t more = 0) const;
  // A quota changed.
  void look();
  // Somebody began to write.
  void watch_writers();
  bool wait_for_room(const Directory& directory, std::uint64_t more,
                     std::chrono::steady_clock::time_point deadline);

 private:
  // What one walk over a directory found.
  struct Count {
    std::uint64_t changes = 0;  // of the directory, before the walk
    std::uint64_t bytes = 0, files = 0;
    bool whole = false;  // nothing cut it short
  };
  void run();
  // Counts the files that `stays` says true of.
  Count count(const Directory& directory, const std::function<bool(const FoundFile&)>& stays) const;
  bool wait_for_work(bool soon);
  void first_scan();
  void relieve();
  void relieve(const DirectoryPtr& directory, std::uint64_t target);
  void relieve_all(std::uint64_t target);
  bool evict_one(const DirectoryPtr& directory);
  // False when there is none.
  bool find_candidates(const DirectoryPtr& directory);
  void count_again();

  EvictionTarget& target_;
  const int root_;
  const std::uint64_t quota_;
  const TotalBytes total_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> watching_{false};
  std::thread thread_;

  // The thread's own.
  std::unordered_map<std::uint64_t, std::deque<Candidate>> candidates_;  // by directory
  std::unordered_map<std::uint64_t, std::uint64_t> scanned_;  // the last pass that scanned it
  std::chrono::steady_clock::time_point count_again_at_;
  bool held_back_ = false;  // in this pass: what may go in the next
  std::unordered_map<std::uint64_t, std::uint64_t> wanted_now_;  // what this pass is for

  mutable Mutex mutex_;
  CondVar changed_;  // both ways
  bool look_ GUARDED_BY(mutex_) = false;
  // By directory, the most bytes that one of those who wait wants.
  std::unordered_map<std::uint64_t, std::uint64_t> wanted_ GUARDED_BY(mutex_);
  std::uint64_t passes_begun_ GUARDED_BY(mutex_) = 0, passes_ended_ GUARDED_BY(mutex_) = 0;
};

}  // namespace kvfs::plain
