#include "fs/mount/file_system.h"
#include "fs/plain/plain_store.h"

#include <unistd.h>

namespace kvfs::mount {
namespace {

constexpr std::size_t kCompletionThreads = 2;
constexpr std::size_t kJobThreads = 4;

}  // namespace

FileSystem::FileSystem(const Config& config, std::function<void(ShutdownRequest)> shut_down)
    : config_(config),
      shut_down_(std::move(shut_down)),
      owner_{::geteuid(), ::getegid(), 0755},
      started_at_(std::time(nullptr)),
      completions_("kvfs-complete", kCompletionThreads),
      jobs_("kvfs-jobs", kJobThreads) {}

void FileSystem::serve(store::Store& store, plain::PlainStore* plain, fuse_session* session) {
  store_ = &store;
  plain_ = plain;
  backings_.start(session);
  notifier_.start(session);
}

void FileSystem::drain() {
  ending_ = true;
  parked_.fail_all(Refusal::kShuttingDown);
  if (plain_ != nullptr) plain_->evictor().stop();  // nobody waits for room any more
  jobs_.stop();
  completions_.stop();
  parked_.fail_all(Refusal::kShuttingDown);  // what the last jobs parked
  parked_.stop();
}

void FileSystem::drop_handles() {
  handles_.clear();
  imports_.clear();
}

void FileSystem::attributes_changed(std::uint32_t namespace_id, const Key& key) {
  if (const auto inode = inodes_.find({InodeKind::kPrefix, namespace_id, key, {}})) {
    notifier_.forget_attributes(inode->nodeid);
  }
}

void FileSystem::ownership_changed(std::uint32_t namespace_id) {
  for (const auto& inode : inodes_.of_namespace(namespace_id))
    notifier_.forget_attributes(inode->nodeid);
}

void FileSystem::gone(const InodePtr& inode) {
  if (inode == nullptr) return;  // the kernel never saw it
  if (handles_.holds(inode->nodeid)) {
    notifier_.forget_attributes(inode->nodeid);
  } else {
    notifier_.forget_inode(inode->nodeid);
  }
}

void FileSystem::on_prefix_removed(std::uint32_t namespace_id, const Key& key) {
  gone(inodes_.detach({InodeKind::kPrefix, namespace_id, key, {}}));
}

void FileSystem::on_slab_removed(std::uint32_t namespace_id, std::uint32_t slab) {
  gone(inodes_.detach({InodeKind::kSlab, namespace_id, {slab, 0}, {}}));
}

void FileSystem::on_namespace_removed(std::uint32_t namespace_id) {
  for (const InodePtr& inode : inodes_.detach_namespace(namespace_id)) gone(inode);
}

void FileSystem::on_gone(const plain::NodePtr& node) {
  const auto kind = node->is_directory ? InodeKind::kPlainDirectory : InodeKind::kPlainFile;
  gone(inodes_.detach({kind, 0, {node->serial, 0}, {}}));
}

}  // namespace kvfs::mount
