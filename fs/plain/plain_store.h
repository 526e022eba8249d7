// PlainStore: the plain directories of a mount. Files lie as files in a directory of the file
// system below; this knows which are whole, how much they take, and who leaves for others.
#pragma once

#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fs/mutex.h"
#include "fs/plain/checksums.h"
#include "fs/plain/directory.h"
#include "fs/plain/evictor.h"
#include "fs/plain/open_files.h"
#include "fs/plain/plain_listener.h"
#include "fs/plain/trash.h"
#include "fs/plain/tree.h"
#include "fs/unique_fd.h"
#include "lib/format/result.h"

namespace kvfs::plain {

// Of a plain directory, below as on the mount: its own quota, and what leaves at once.
inline constexpr const char* kQuotaAttribute = "user.kvfs.quota";
inline constexpr const char* kUnitAttribute = "user.kvfs.unit";

// Hidden from users: the bytes that it had when that was last kept.
inline constexpr const char* kBytesAttribute = "user.kvfs.bytes";

struct PlainOptions {
  std::string directory;    // made where it is missing; nobody else's files may be in it
  std::uint64_t quota = 0;  // of all plain directories together
};

// A file whose name goes.
struct Leaving {
  DirectoryPtr top;  // null: no regular file
  std::uint64_t bytes = 0;
  OpenFilePtr open;
  void gone() const;
};

struct Verification {
  std::uint64_t files = 0;
  std::uint64_t bytes = 0;
  // Paths below the directory.
  std::vector<std::string> bad;   // dropped
  std::vector<std::string> kept;  // bad too, but somebody has them open
  struct Unread {
    std::string path;  // empty: of all
    std::string why;
  };
  std::vector<Unread> unread;  // the disk did not give them; they stay
};

// Threads: all calls from any thread. The tree's lock comes before every other; then a file's and
//          the tables' own, which are leaves.
// Owns:    the directory, which no other daemon can open meanwhile; two threads.
// Blocks:  on the file system below.
// Errors:  Result for what is about the store, errno for what is about a file.
class PlainStore final : private EvictionTarget {
 public:
  // kInvalid: the directory has other files in it, or its file system no extended attributes.
  // kBusy: another daemon has it. Nothing runs before start().
  static Result<std::unique_ptr<PlainStore>> open(const PlainOptions& options);
  ~PlainStore() override;

  void start(PlainListener& listener);
  // After the last request. Checksums are computed for half the time until the deadline; where
  // files are left without, the file system below is synced.
  void stop(std::chrono::steady_clock::time_point deadline);

  [[nodiscard]] int root() const { return root_.get(); }
  // `path` from there.
  [[nodiscard]] OsResult<Place> place(const std::string& path) const {
    return Place::reach(root(), path);
  }
  [[nodiscard]] Tree& tree() { return tree_; }
  [[nodiscard]] OpenFiles& files() { return files_; }
  [[nodiscard]] Evictor& evictor() { return evictor_; }
  [[nodiscard]] std::size_t checksums_queued() const { return checksums_.queued(); }

  // Plain directories, by name.
  [[nodiscard]] std::vector<DirectoryPtr> directories() const override;
  [[nodiscard]] DirectoryPtr find(std::string_view name) const;
  OsStatus make(const std::string& name, mode_t mode, uid_t owner, gid_t group);
  OsStatus remove(const std::string& name);  // ENOTEMPTY
  OsStatus rename(const std::string& name, const std::string& to);
  OsStatus set_quota(const DirectoryPtr& directory, std::uint64_t bytes);  // 0: none of its own
  OsStatus set_unit(const DirectoryPtr& directory, Unit unit);

  // Whether a file that nobody has open was left by a writer who died. SharedLock.
  [[nodiscard]] bool is_incomplete(const Place& file, std::uint64_t inode) const;
  // Drops a file that is not whole, with the subdirectory it is in where that is the unit; without
  // a lock. True when it is gone.
  bool drop(const NodePtr& node, std::uint64_t inode, Loss loss);
  // What a name means that is about to mean nothing, or another file. SharedLock, and the kernel's
  // lock on the directory. When it is done, gone() ends its being counted.
  [[nodiscard]] Leaving leaving(const DirectoryPtr& top, const Place& place) const;

  // Reads every file of a directory and compares its checksum. What is being written is left out.
  // Ends early when `stopping` becomes true.
  Verification verify(const DirectoryPtr& directory,
                      const std::atomic<bool>& stopping = kNeverStopping);

 private:
  PlainStore(UniqueFd lock, UniqueFd root, const PlainOptions& options);
  void load_directories();
  void keep_bytes(const DirectoryPtr& directory);
  void keep_closed(const std::deque<Opened>& files);
  [[nodiscard]] std::string absolute(const std::string& path) const;
  // What an eviction or a loss took away; told of when no lock is held.
  struct Lost {
    std::vector<NodePtr> nodes;  // that the kernel may know
    std::size_t incomplete = 0;  // files that were never whole
    std::uint64_t trash = 0;     // the subdirectory that they are in; 0: none
  };
  // All under the tree's exclusive lock.
  bool take_file(const DirectoryPtr& top, const Place& place, const std::string& path_below,
                 Loss loss, Lost& lost);
  struct Subdirectory;
  [[nodiscard]] std::optional<Subdirectory> look_into(const DirectoryPtr& top,
                                                      const std::string& name) const;
  bool take_subdirectory(const DirectoryPtr& top, const Subdirectory& subdirectory, Loss loss,
                         Lost& lost);
  void forget(const DirectoryPtr& top, const std::string& path_below, Lost& lost);
  // Without a lock.
  [[nodiscard]] bool is_there(const std::string& path, std::uint64_t inode) const;
  void finish(const Lost& lost);
  bool lose(const DirectoryPtr& top, const std::string& path_below, std::uint64_t inode,
            std::int64_t accessed, Loss loss) override;
  bool lose_subdirectory(const DirectoryPtr& top, const std::string& name,
                         std::int64_t used) override;
  std::int64_t asked(const DirectoryPtr& top, const std::string& name) override;
  std::size_t count_writers() override { return files_.count_writers(); }
  void catch_up() override;
  void keep_bytes() override;
  bool is_incomplete(const FoundFile& file) override;

  const UniqueFd lock_;
  const UniqueFd root_;
  const std::string path_;
  Trash trash_;
  PlainListener* listener_ = nullptr;
  Tree tree_;
  mutable Mutex mutex_;  // a leaf
  std::map<std::string, DirectoryPtr, std::less<>> directories_ GUARDED_BY(mutex_);
  std::uint64_t next_id_ GUARDED_BY(mutex_) = 1;
  const TotalBytes total_ = no_bytes();
  Checksums checksums_;
  OpenFiles files_;
  Evictor evictor_;
};

}  // namespace kvfs::plain
