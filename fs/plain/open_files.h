// OpenFiles: the plain files that are open, one object a file below however many descriptors there
// are.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "fs/mutex.h"
#include "fs/plain/directory.h"
#include "fs/plain/os_result.h"
#include "fs/plain/place.h"
#include "fs/plain/record.h"
#include "fs/unique_fd.h"

namespace kvfs::plain {

class OpenFiles;

inline const std::atomic<bool> kNeverStopping{false};

// What this boot of the machine and this life of the daemon are called in records.
struct Era {
  std::uint64_t boot = 0;
  std::uint64_t life = 0;
  static Era now();
};

// One file while anything has it open. Bytes are read and written by whoever has the descriptor,
// also by the kernel itself; what is written between the first writer's open and the last one's
// close is counted from the file's size.
//
// Threads: all calls from any thread.
// Owns:    one descriptor; the counts of who has it open belong to Opened.
// Blocks:  on the file system below, for an attribute.
// Errors:  what it cannot record is logged; the file is then not whole after a restart.
class OpenFile {
 public:
  OpenFile(UniqueFd fd, std::uint64_t inode, std::uint64_t bytes, DirectoryPtr top, Era era)
      : fd_(std::move(fd)), inode_(inode), top_(std::move(top)), era_(era), counted_(bytes) {}
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] std::uint64_t inode() const { return inode_; }
  [[nodiscard]] const DirectoryPtr& top() const { return top_; }

  // Counts what it grew or shrank by since the last time. Returns how much that was.
  std::int64_t count();
  // Its name is gone: what it has counted, which is not counted any more.
  std::uint64_t uncount();

  // What fsync(2) promises: the bytes so far are there after a crash.
  int sync();
  // Its file system was synced: what was recorded at its close is true after a power failure, too.
  void synced();
  // utimensat(2); a record of its bytes stays one.
  int set_times(const timespec (&times)[2]);
  // It is being used: for the order in which files leave.
  void touch();

  // kReadFirst: an earlier life recorded it. kNot: nothing says that it is whole.
  enum class Trust : std::uint8_t { kWhole, kReadFirst, kNot };
  [[nodiscard]] Trust trust() const;
  // kSame: it is what the record is of, which then says so for this life. kNoChecksum: it is whole
  // as far as can be known, and wants a checksum. kOther: dropping it is right. kUnread: the disk
  // did not give it, or `stopping` became true.
  enum class Comparison : std::uint8_t { kSame, kNoChecksum, kOther, kUnread };
  // Blocks: while it is read.
  Comparison read_and_compare(const std::atomic<bool>& stopping = kNeverStopping);
  // Reads it all and records the checksum, unless it is being written, or was meanwhile (false).
  bool record_checksum(const std::atomic<bool>& stopping);

 private:
  friend class OpenFiles;
  friend class Opened;
  int begin_writing();
  // True when that was the last writer: the file is whole now, and wants its checksum.
  bool end_writing();
  [[nodiscard]] Record record_of(Record::State state, const struct stat& file) const;
  // Its bytes as of `before` have reached the disk.
  int record_synced(const struct stat& before) REQUIRES(mutex_);
  Comparison adopt(const struct stat& file) REQUIRES(mutex_);
  // Whether a file that has no checksum, or not of these bytes, is whole all the same.
  [[nodiscard]] bool adoptable(const Record& record, const struct stat& file) const;

  const UniqueFd fd_;
  const std::uint64_t inode_;
  const DirectoryPtr top_;
  const Era era_;
  mutable Mutex mutex_;
  std::uint32_t writers_ GUARDED_BY(mutex_) = 0;
  std::uint64_t generation_ GUARDED_BY(mutex_) = 0;  // of what was written
  std::uint64_t counted_ GUARDED_BY(mutex_);         // bytes that the directory counts for it
  bool gone_ GUARDED_BY(mutex_) = false;

  // Guarded by the table's mutex.
  std::uint32_t opens_ = 0;
  std::uint32_t own_opens_ = 0;  // of these: the daemon's
  bool wants_checksum_ = false;  // one of the own opens is for that
};
using OpenFilePtr = std::shared_ptr<OpenFile>;

// kChecksum, kVerify: by the daemon, to compute the checksum and to compare it, which keeps the
// file from nothing.
enum class Access : std::uint8_t { kRead, kWrite, kChecksum, kVerify };

// One open of a file: move-only, counted from making to end. Writing ends with finish(); an Opened
// that goes without it leaves a file that is not whole, as a crash would.
class Opened {
 public:
  Opened() = default;
  Opened(OpenFiles& files, OpenFilePtr file, Access access)
      : files_(&files), file_(std::move(file)), access_(access) {}
  Opened(Opened&& other) noexcept = default;
  Opened& operator=(Opened&& other) noexcept {
    std::swap(files_, other.files_);
    std::swap(file_, other.file_);
    std::swap(access_, other.access_);
    return *this;
  }
  ~Opened();
  // For writing from now on. errno when that cannot be recorded.
  int write();
  void finish();

  OpenFile* operator->() const { return file_.get(); }
  OpenFile& operator*() const { return *file_; }
  [[nodiscard]] const OpenFilePtr& file() const { return file_; }
  [[nodiscard]] bool writes() const { return access_ == Access::kWrite; }

 private:
  OpenFiles* files_ = nullptr;
  OpenFilePtr file_;
  Access access_ = Access::kRead;
};

// Threads: all calls from any thread; open() and forget() under a lock of the tree, so that a file
//          is not evicted between its path and its descriptor.
// Owns:    a share of each open file.
// Blocks:  on the file system below.
// Errors:  errno.
class OpenFiles {
 public:
  // `whole` is given files whose last writer is gone: they want a checksum.
  OpenFiles(Era era, std::function<void(Opened)> whole) : era_(era), whole_(std::move(whole)) {}

  // With O_CREAT in `flags` a file is made and belongs to the directory from then on. The file is
  // never truncated here, nor opened for appending.
  OsResult<Opened> open(const Place& place, Access access, const DirectoryPtr& top, int flags = 0,
                        mode_t mode = 0);
  // Once more for reading, of a file that is open.
  Opened again(const OpenFilePtr& file);
  // By anybody but the daemon itself.
  [[nodiscard]] bool is_open(std::uint64_t inode) const;
  [[nodiscard]] OpenFilePtr find(std::uint64_t inode) const;
  // Counts what grows. Returns how many files are open for writing.
  std::size_t count_writers() const;

  // Gives the file to `whole`, unless it is there already.
  void want_checksum(const OpenFilePtr& file);

 private:
  friend class Opened;
  void release(const OpenFilePtr& file, Access access);
  OpenFilePtr insert(UniqueFd fd, const struct stat& file, const DirectoryPtr& top, bool own);

  const Era era_;
  const std::function<void(Opened)> whole_;
  mutable Mutex mutex_;  // before a file's own
  std::unordered_map<std::uint64_t, OpenFilePtr> files_ GUARDED_BY(mutex_);
};

}  // namespace kvfs::plain
