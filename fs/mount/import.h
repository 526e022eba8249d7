// Import: a prefix file being copied in. Its bytes are spooled; at close they are checked in full
// and stored like any other prefix.
#pragma once

#include <sys/stat.h>

#include <chrono>
#include <cstdint>
#include <ctime>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "fs/mutex.h"
#include "fs/store/store.h"
#include "fs/unique_fd.h"

namespace kvfs::mount {

// States: spooling -> stored, by finish() on bytes that are right; bytes that are wrong leave it
// spooling, so that the next close may find them complete (a shell closes a file before it has
// written it, when it moves the descriptor). Bytes changed after that are checked again.
// stored -> settled, by settle(): its name is a symlink now, for everybody but the process that
// wrote it. That one sees the file it wrote for a moment more, because tools that copy (rsync) go
// on to set mode and times of what they wrote and refuse to do so through a symlink.
//
// Threads: calls from any thread; finish() one at a time.
// Owns:    the spool, which has no name: nothing is left of it when the daemon or the writer dies.
// Blocks:  finish() reads everything; the others as a local file does.
// Errors:  finish(): kInvalid with what is wrong; kNoSpace.
class Import {
 public:
  static Result<std::shared_ptr<Import>> create(const std::string& spool_directory, mode_t mode);

  [[nodiscard]] std::uint64_t serial() const { return serial_; }  // of this daemon's imports
  Result<std::size_t> write(std::uint64_t offset, std::span<const char> bytes);
  Result<std::size_t> read(std::uint64_t offset, std::span<char> bytes) const;
  Status truncate(std::uint64_t bytes);
  Status allocate(int mode, std::uint64_t offset, std::uint64_t bytes);
  void set_mode(mode_t mode);
  void set_modified(const timespec& time);

  struct Facts {
    std::uint64_t bytes;
    mode_t mode;
    timespec modified;
  };
  [[nodiscard]] Facts facts() const;

  // The key under which `ns` has the prefix now; nothing while the file is empty. `room_time`:
  // store_import().
  Result<std::optional<Key>> finish(store::Namespace& ns, std::chrono::milliseconds room_time);
  [[nodiscard]] bool stored() const;

  // A file open for writing, besides the one it was created with. False: its last writer has closed
  // it before it was settled, and nobody can complete it any more.
  [[nodiscard]] bool begin_writing();
  // True: this was the last writer, and what it leaves is not settled.
  [[nodiscard]] bool end_writing();

  void settle(pid_t writer);
  [[nodiscard]] bool settled() const;
  [[nodiscard]] bool seen_as_file(pid_t caller) const;
  [[nodiscard]] bool expired() const;  // settled, and nobody sees the file any more

 private:
  Import(UniqueFd spool, mode_t mode);

  const UniqueFd spool_;
  const std::uint64_t serial_;
  Mutex finishing_;  // outermost
  mutable Mutex mutex_;
  mode_t mode_ GUARDED_BY(mutex_);
  std::optional<timespec> modified_ GUARDED_BY(mutex_);
  std::uint64_t changes_ GUARDED_BY(mutex_) = 0;
  std::uint64_t stored_changes_ GUARDED_BY(mutex_) = 0;
  std::optional<Key> key_ GUARDED_BY(mutex_);
  std::uint32_t writers_ GUARDED_BY(mutex_) = 1;    // files open for writing
  std::optional<pid_t> writer_ GUARDED_BY(mutex_);  // settled
  std::chrono::steady_clock::time_point seen_until_ GUARDED_BY(mutex_);
};

}  // namespace kvfs::mount
