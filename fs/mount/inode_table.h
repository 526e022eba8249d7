// InodeTable: the inodes the kernel knows, by node id and by what they are.
#pragma once

#include <atomic>
#include <unordered_map>
#include <vector>

#include "fs/mount/inode.h"
#include "fs/mutex.h"

namespace kvfs::mount {

// An inode lives from the first lookup that finds it until the kernel has forgotten every lookup.
// detach() takes it out before: what the kernel still does with its node id is answered by ESTALE,
// upon which it looks the path up again, and that lookup makes a new inode. So nothing that the
// kernel cached for the old one can be seen again.
//
// Threads: all calls from any thread; one mutex, innermost.
// Owns:    the inodes; others hold them by shared pointer for the length of a request or a handle.
// Blocks:  never.
// Errors:  get() gives null for a node id the kernel should not know, or should know no more.
class InodeTable {
 public:
  InodeTable();

  [[nodiscard]] InodePtr get(fuse_ino_t nodeid) const;
  // Of a descriptor that is open: detached ones too, it works on.
  [[nodiscard]] InodePtr get_opened(fuse_ino_t nodeid) const;
  // Finds or makes, and counts one lookup. A prefix that was stored anew counts as another one.
  InodePtr look_up(Inode wanted);
  void forget(fuse_ino_t nodeid, std::uint64_t lookups);

  // The inode the kernel knows for `id`, or null. Does not count a lookup.
  [[nodiscard]] InodePtr find(const InodeId& id) const;
  InodePtr detach(const InodeId& id);
  // All inodes of a namespace: when its owner or mode changes.
  [[nodiscard]] std::vector<InodePtr> of_namespace(std::uint32_t namespace_id) const;
  // The same, and detaches them: it was removed.
  std::vector<InodePtr> detach_namespace(std::uint32_t namespace_id);
  [[nodiscard]] std::size_t size() const;

 private:
  struct Entry {
    InodePtr inode;
    std::uint64_t lookups = 0;
    bool detached = false;
  };
  [[nodiscard]] InodePtr find_node(fuse_ino_t nodeid, bool detached_too) const;
  mutable Mutex mutex_;
  std::unordered_map<fuse_ino_t, Entry> by_node_ GUARDED_BY(mutex_);
  std::unordered_map<InodeId, fuse_ino_t, InodeIdHash> by_id_ GUARDED_BY(mutex_);
  fuse_ino_t next_ GUARDED_BY(mutex_) = FUSE_ROOT_ID + 1;
};

}  // namespace kvfs::mount
