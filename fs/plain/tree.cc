#include "fs/plain/tree.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "fs/plain/open_files.h"

namespace kvfs::plain {
namespace {

constexpr std::uint64_t kTopPlace = 1ULL << 63;

std::string joined(std::string_view directory, std::string_view name) {
  std::string path;
  path.reserve(directory.size() + 1 + name.size());
  path.append(directory).append(1, '/').append(name);
  return path;
}

}  // namespace

// Parents may go with it, one after the other: a user chooses how many there are, and each within
// the end of the last would be as deep a stack.
Node::~Node() {
  tree.forget(*this);
  static thread_local NodePtr* next = nullptr;  // where one that ends in the loop leaves its parent
  if (next != nullptr) {
    *next = std::move(parent);
    return;
  }
  NodePtr up = std::move(parent);
  NodePtr above;
  next = &above;
  while (up != nullptr) {
    up.reset();
    up.swap(above);
  }
  next = nullptr;
}

void Node::ask() { asked = time_of_files(); }

std::int64_t Node::asked_within(std::chrono::nanoseconds time) const {
  const std::int64_t last = asked;
  return time_of_files() - last < time.count() ? last : 0;
}

std::size_t Tree::PlaceHash::operator()(const Place& place) const noexcept {
  return std::hash<std::string>()(place.name) ^
         static_cast<std::size_t>(place.parent * 0x9e3779b97f4a7c15ULL);
}

Tree::Place Tree::place_of(const Node& node) {
  if (node.parent == nullptr) return {node.top->id() | kTopPlace, {}};
  return {node.parent->serial, node.name};
}

SharedLock Tree::shared() const {
  { const std::lock_guard<std::mutex> behind_whoever_waits(gate_); }
  return SharedLock(lock_);
}

ExclusiveLock Tree::exclusive() const {
  const std::lock_guard<std::mutex> gate(gate_);
  return ExclusiveLock(lock_);
}

NodePtr Tree::find(const Place& place) const {
  const MutexLock lock(mutex_);
  const auto found = nodes_.find(place);
  return found == nodes_.end() ? nullptr : found->second.lock();
}

NodePtr Tree::find_or_make(Place place, const DirectoryPtr& top, const NodePtr& parent,
                           bool is_directory) {
  NodePtr other;  // of another kind: goes after the lock
  const MutexLock lock(mutex_);
  std::weak_ptr<Node>& slot = nodes_[place];
  other = slot.lock();
  if (other != nullptr && other->is_directory == is_directory) return other;
  auto node = std::make_shared<Node>(*this, next_++, top, is_directory);
  node->parent = parent;
  node->name = std::move(place.name);
  slot = node;
  return node;
}

NodePtr Tree::top(const DirectoryPtr& directory) {
  return find_or_make({directory->id() | kTopPlace, {}}, directory, nullptr, true);
}

NodePtr Tree::child(const NodePtr& parent, std::string_view name, bool is_directory) {
  return find_or_make({parent->serial, std::string(name)}, parent->top, parent, is_directory);
}

NodePtr Tree::find(const DirectoryPtr& top, std::string_view path_below) const {
  NodePtr node = find({top->id() | kTopPlace, {}});
  while (node != nullptr && !path_below.empty()) {
    const std::size_t end = std::min(path_below.find('/'), path_below.size());
    node = find({node->serial, std::string(path_below.substr(0, end))});
    path_below.remove_prefix(std::min(end + 1, path_below.size()));
  }
  return node;
}

NodePtr Tree::find(const Node& directory, std::string_view name) const {
  return find({directory.serial, std::string(name)});
}

std::string Tree::path(const Node& node) {
  std::string path = node.top->name();
  std::size_t end = path.size();
  for (const Node* at = &node; at->parent != nullptr; at = at->parent.get())
    end += 1 + at->name.size();
  path.resize(end);
  for (const Node* at = &node; at->parent != nullptr; at = at->parent.get()) {
    end -= at->name.size();
    path.replace(end, at->name.size(), at->name);
    path[--end] = '/';
  }
  return path;
}

std::string Tree::path(const Node& directory, std::string_view name) {
  return joined(path(directory), name);
}

NodePtr Tree::remove(const Node& directory, std::string_view name) {
  const MutexLock lock(mutex_);
  const auto found = nodes_.find({directory.serial, std::string(name)});
  if (found == nodes_.end()) return nullptr;
  NodePtr node = found->second.lock();
  nodes_.erase(found);
  if (node != nullptr) node->gone = true;
  return node;
}

NodePtr Tree::rename(const NodePtr& from, std::string_view name, const NodePtr& to,
                     std::string_view new_name) {
  NodePtr displaced = remove(*to, new_name);
  NodePtr node, old_parent;  // go after the lock: these may be the last to hold them
  const MutexLock lock(mutex_);
  const auto found = nodes_.find({from->serial, std::string(name)});
  if (found == nodes_.end()) return displaced;
  node = found->second.lock();
  nodes_.erase(found);
  if (node == nullptr) return displaced;
  old_parent = std::exchange(node->parent, to);
  node->name = new_name;
  nodes_[{to->serial, node->name}] = node;
  return displaced;
}

void Tree::set_open(Node& node, const std::shared_ptr<OpenFile>& file) {
  const MutexLock lock(mutex_);
  node.open = file;
}

std::shared_ptr<OpenFile> Tree::open_file(const Node& node) const {
  const MutexLock lock(mutex_);
  return node.open.lock();
}

void Tree::forget(const Node& node) {
  const MutexLock lock(mutex_);
  const auto found = nodes_.find(place_of(node));
  // Another node may have the name by now.
  if (found != nodes_.end() && found->second.expired()) nodes_.erase(found);
}

}  // namespace kvfs::plain
