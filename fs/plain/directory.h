// Directory: one plain directory of the mount's root, as far as it is counted.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "fs/mutex.h"

namespace kvfs::plain {

// What leaves at once for others: a file, or a whole immediate subdirectory, for engines to whom
// the files of one are of no use without each other.
enum class Unit : std::uint8_t { kFile, kDirectory };
std::string_view to_string(Unit unit);
std::optional<Unit> parse_unit(std::string_view text);

struct DirectoryStats {
  std::string name;
  Unit unit = Unit::kFile;
  std::uint64_t quota = 0;  // 0: only the quota of all together
  std::uint64_t bytes = 0;
  std::uint64_t files = 0;
  bool counted = false;  // `bytes` and `files` are of what was found, not what was kept
  std::uint64_t hits = 0, misses = 0;
  std::uint64_t evicted_files = 0, evicted_bytes = 0;
  std::uint64_t corrupt_files = 0;     // dropped: bytes that were not those of the checksum
  std::uint64_t incomplete_files = 0;  // dropped: they were being written when a daemon died
};

// What a file of that size counts: whole pages, so that it follows from the size alone.
constexpr std::uint64_t counted_bytes(std::uint64_t size) { return (size + 4095) & ~4095ULL; }

// Bytes of all directories, kept as they change: every open for writing asks.
using TotalBytes = std::shared_ptr<std::atomic<std::int64_t>>;
inline TotalBytes no_bytes() { return std::make_shared<std::atomic<std::int64_t>>(0); }

// The immediate subdirectory that a path below a plain directory is in; empty: in none.
constexpr std::string_view subdirectory_of(std::string_view path_below) {
  const std::size_t end = path_below.find('/');
  return end == std::string_view::npos ? std::string_view() : path_below.substr(0, end);
}

// Threads: all calls from any thread.
// Owns:    counters.
// Blocks:  never.
// Errors:  none.
class Directory {
 public:
  // `id` is not used again while the daemon lives.
  Directory(std::uint64_t id, std::string name, TotalBytes total = no_bytes())
      : id_(id), total_(std::move(total)), name_(std::move(name)) {}
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  [[nodiscard]] std::uint64_t id() const { return id_; }
  [[nodiscard]] std::string name() const;
  void set_name(std::string name);

  [[nodiscard]] std::uint64_t quota() const { return quota_; }
  void set_quota(std::uint64_t bytes) { quota_ = bytes; }
  [[nodiscard]] Unit unit() const { return unit_; }
  void set_unit(Unit unit) { unit_ = unit; }

  // What it had when an earlier life last kept that: holds until a scan has counted.
  void assume(std::uint64_t bytes);
  // Signed: while files of an earlier life are being counted, some may leave before they came.
  void add(std::int64_t bytes, std::int64_t files);
  // Names changed: a scan may have missed one, or seen it twice.
  void renamed() { add(0, 0); }
  // A scan that nothing disturbed knows better; `changes` is changes() from before it.
  bool set_usage(std::uint64_t bytes, std::uint64_t files, std::uint64_t changes);
  // One that was disturbed, in place of what was assumed; where it did not see all, it has no less.
  void add_found(std::uint64_t bytes, std::uint64_t files, bool whole);
  [[nodiscard]] std::uint64_t changes() const { return changes_; }
  [[nodiscard]] std::uint64_t bytes() const;
  [[nodiscard]] std::uint64_t files() const;
  [[nodiscard]] bool exact() const { return exact_; }
  // bytes() as a later life would find it; whoever writes it down says so.
  [[nodiscard]] std::optional<std::uint64_t> kept() const;
  void keep(std::uint64_t bytes);

  void hit() { ++hits_; }
  void missed() { ++misses_; }
  // The kernel looks a name up before it makes it: that was no miss.
  void made() { --misses_; }
  void evicted(std::uint64_t bytes);
  void found_corrupt() { ++corrupt_; }
  void found_incomplete() { ++incomplete_; }
  [[nodiscard]] DirectoryStats stats() const;

 private:
  void change(std::int64_t bytes, std::int64_t files) REQUIRES(mutex_);

  const std::uint64_t id_;
  const TotalBytes total_;
  mutable Mutex mutex_;
  std::string name_ GUARDED_BY(mutex_);
  std::atomic<std::uint64_t> quota_{0};
  std::atomic<Unit> unit_{Unit::kFile};
  std::int64_t bytes_ GUARDED_BY(mutex_) = 0;
  std::int64_t files_ GUARDED_BY(mutex_) = 0;
  std::int64_t assumed_ GUARDED_BY(mutex_) = 0;  // of bytes_
  std::optional<std::uint64_t> kept_ GUARDED_BY(mutex_);
  std::atomic<std::uint64_t> changes_{0};
  std::atomic<bool> counted_{false}, exact_{false};
  std::atomic<std::int64_t> misses_{0};
  std::atomic<std::uint64_t> hits_{0}, evicted_files_{0}, evicted_bytes_{0}, corrupt_{0},
      incomplete_{0};
};
using DirectoryPtr = std::shared_ptr<Directory>;

}  // namespace kvfs::plain
