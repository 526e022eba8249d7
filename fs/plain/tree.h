// Tree: the names below plain directories that somebody knows, and the lock that keeps a path true
// while a system call uses it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "fs/mutex.h"
#include "fs/plain/directory.h"
#include "fs/plain/plain_listener.h"

namespace kvfs::plain {

class OpenFile;
class Opened;
class Tree;

// A file, directory or symlink below a plain directory, or that directory. It has a parent instead
// of a path, so that a directory is renamed without a look at what is in it, and no descriptor, so
// that millions may be known.
struct Node {
  Node(Tree& tree_, std::uint64_t serial_, DirectoryPtr top_, bool is_directory_)
      : tree(tree_), serial(serial_), top(std::move(top_)), is_directory(is_directory_) {}
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  // Somebody asked for a directory: what it has may be opened next.
  void ask();
  // When that was, as a file's times are; 0: longer ago than `time`.
  [[nodiscard]] std::int64_t asked_within(std::chrono::nanoseconds time) const;

  Tree& tree;
  const std::uint64_t serial;  // never used twice
  const DirectoryPtr top;
  const bool is_directory;
  std::atomic<bool> gone{false};
  std::atomic<std::int64_t> asked{0};
  // Guarded by the tree's lock.
  NodePtr parent;    // null for the plain directory itself
  std::string name;  // empty for it
  // A file that another was renamed over: whoever found it before opens it after, as on any file
  // system. Let go with the node.
  std::shared_ptr<Opened> displaced;
  // Guarded by the tree's mutex.
  std::weak_ptr<OpenFile> open;
};

// Held while a path is made and used; several at once.
using SharedLock = std::shared_lock<std::shared_mutex>;
// Held where a name comes to mean another file: rename and eviction.
using ExclusiveLock = std::unique_lock<std::shared_mutex>;

// The kernel's own locks keep two requests from one name, but not a rename of a directory from what
// happens below it, and not the daemon's evictions from anything. Both take the exclusive lock, for
// the length of a few system calls.
//
// Threads: all calls from any thread, those with a path or a name under a lock of the tree.
// Owns:    nothing: nodes live as long as somebody holds them, a child holds its parents.
// Blocks:  the locks, for a system call of somebody else.
// Errors:  none.
class Tree {
 public:
  Tree() = default;
  Tree(const Tree&) = delete;
  Tree& operator=(const Tree&) = delete;

  [[nodiscard]] SharedLock shared() const;
  [[nodiscard]] ExclusiveLock exclusive() const;

  // Finds or makes. SharedLock.
  NodePtr top(const DirectoryPtr& directory);
  NodePtr child(const NodePtr& parent, std::string_view name, bool is_directory);
  // Of a path below a plain directory, when all of it is known. ExclusiveLock.
  [[nodiscard]] NodePtr find(const DirectoryPtr& top, std::string_view path_below) const;

  // Relative to the directory that holds all plain directories. SharedLock.
  [[nodiscard]] static std::string path(const Node& node);
  [[nodiscard]] static std::string path(const Node& directory, std::string_view name);

  // The name means nothing any more; returns who had it. SharedLock (the caller has the directory).
  NodePtr remove(const Node& directory, std::string_view name);
  // What is known under a name. SharedLock.
  [[nodiscard]] NodePtr find(const Node& directory, std::string_view name) const;
  // Returns whoever had the new name. ExclusiveLock.
  NodePtr rename(const NodePtr& from, std::string_view name, const NodePtr& to,
                 std::string_view new_name);

  // The open file of a node while any descriptor of it is open.
  void set_open(Node& node, const std::shared_ptr<OpenFile>& file);
  [[nodiscard]] std::shared_ptr<OpenFile> open_file(const Node& node) const;

 private:
  friend struct Node;
  struct Place {
    std::uint64_t parent;  // its serial; for a plain directory the directory's id, negated
    std::string name;
    friend bool operator==(const Place&, const Place&) = default;
  };
  struct PlaceHash {
    std::size_t operator()(const Place& place) const noexcept;
  };
  void forget(const Node& node);
  NodePtr find_or_make(Place place, const DirectoryPtr& top, const NodePtr& parent,
                       bool is_directory);
  [[nodiscard]] NodePtr find(const Place& place) const;
  static Place place_of(const Node& node);

  mutable std::mutex gate_;  // whoever wants the exclusive lock keeps later ones out
  mutable std::shared_mutex lock_;
  mutable Mutex mutex_;  // innermost
  std::unordered_map<Place, std::weak_ptr<Node>, PlaceHash> nodes_ GUARDED_BY(mutex_);
  std::uint64_t next_ GUARDED_BY(mutex_) = 1;
};

}  // namespace kvfs::plain
