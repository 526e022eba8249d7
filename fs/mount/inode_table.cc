#include "fs/mount/inode_table.h"

namespace kvfs::mount {

InodeTable::InodeTable() {
  auto root = std::make_shared<Inode>();
  root->nodeid = FUSE_ROOT_ID;
  root->number = inode_number(root->id);
  by_id_.emplace(root->id, root->nodeid);
  by_node_.emplace(fuse_ino_t{FUSE_ROOT_ID}, Entry{std::move(root), 1});  // never forgotten
}

InodePtr InodeTable::find_node(fuse_ino_t nodeid, bool detached_too) const {
  const MutexLock lock(mutex_);
  const auto found = by_node_.find(nodeid);
  if (found == by_node_.end() || (found->second.detached && !detached_too)) return nullptr;
  return found->second.inode;
}

InodePtr InodeTable::get(fuse_ino_t nodeid) const { return find_node(nodeid, false); }

InodePtr InodeTable::get_opened(fuse_ino_t nodeid) const { return find_node(nodeid, true); }

InodePtr InodeTable::look_up(Inode wanted) {
  const MutexLock lock(mutex_);
  if (const auto found = by_id_.find(wanted.id); found != by_id_.end()) {
    Entry& entry = by_node_.at(found->second);
    if (entry.inode->stored_at == wanted.stored_at) {
      ++entry.lookups;
      return entry.inode;
    }
    entry.detached = true;
  }
  wanted.nodeid = next_++ | (is_plain(wanted.kind()) ? kPlainNodes : 0);
  if (wanted.number == 0) wanted.number = inode_number(wanted.id);
  auto inode = std::make_shared<const Inode>(std::move(wanted));
  by_id_[inode->id] = inode->nodeid;
  by_node_.emplace(inode->nodeid, Entry{inode, 1});
  return inode;
}

void InodeTable::forget(fuse_ino_t nodeid, std::uint64_t lookups) {
  InodePtr last;  // goes after the lock: it may be the last to hold a namespace
  const MutexLock lock(mutex_);
  const auto found = by_node_.find(nodeid);
  if (found == by_node_.end() || nodeid == FUSE_ROOT_ID) return;
  Entry& entry = found->second;
  entry.lookups -= lookups < entry.lookups ? lookups : entry.lookups;
  if (entry.lookups != 0) return;
  last = std::move(entry.inode);
  by_node_.erase(found);
  const auto named = by_id_.find(last->id);
  if (named != by_id_.end() && named->second == nodeid) by_id_.erase(named);
}

InodePtr InodeTable::find(const InodeId& id) const {
  const MutexLock lock(mutex_);
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : by_node_.at(found->second).inode;
}

InodePtr InodeTable::detach(const InodeId& id) {
  const MutexLock lock(mutex_);
  const auto found = by_id_.find(id);
  if (found == by_id_.end()) return nullptr;
  Entry& entry = by_node_.at(found->second);
  entry.detached = true;
  by_id_.erase(found);
  return entry.inode;
}

std::vector<InodePtr> InodeTable::of_namespace(std::uint32_t namespace_id) const {
  std::vector<InodePtr> inodes;
  const MutexLock lock(mutex_);
  for (const auto& [nodeid, entry] : by_node_) {
    if (entry.inode->ns != nullptr && entry.inode->id.namespace_id == namespace_id)
      inodes.push_back(entry.inode);
  }
  return inodes;
}

std::vector<InodePtr> InodeTable::detach_namespace(std::uint32_t namespace_id) {
  std::vector<InodePtr> inodes = of_namespace(namespace_id);
  std::erase_if(inodes, [this](const InodePtr& inode) { return detach(inode->id) != inode; });
  return inodes;
}

std::size_t InodeTable::size() const {
  const MutexLock lock(mutex_);
  return by_node_.size();
}

}  // namespace kvfs::mount
