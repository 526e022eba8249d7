// FileSystem: what all operations share.
#pragma once

#include <atomic>
#include <ctime>
#include <functional>
#include <optional>
#include <string>

#include "fs/mount/backing_table.h"
#include "fs/mount/config.h"
#include "fs/mount/handle_table.h"
#include "fs/mount/import_table.h"
#include "fs/mount/inode_table.h"
#include "fs/mount/notifier.h"
#include "fs/mount/op_metrics.h"
#include "fs/mount/pending_reply.h"
#include "fs/mount/worker.h"
#include "fs/plain/plain_listener.h"
#include "fs/store/store.h"

namespace kvfs::plain {
class PlainStore;
}

namespace kvfs::mount {

struct ShutdownRequest {
  std::optional<bool> drop_dram;  // nothing: as the configuration says
};

// Threads: everything from any thread.
// Owns:    tables and workers; the stores are the daemon's and outlive it.
// Blocks:  drain(), for jobs that have begun.
// Errors:  none of its own.
class FileSystem final : public store::StoreListener, public plain::PlainListener {
 public:
  FileSystem(const Config& config, std::function<void(ShutdownRequest)> shut_down);

  // Once, before the first request.
  void serve(store::Store& store, plain::PlainStore* plain, fuse_session* session);
  // No notification is sent any more.
  void stop_notifying() { notifier_.stop(); }
  // After the last request, while the session still has its descriptor: answers what waits and ends
  // whatever could answer, because the next file that is opened may get the descriptor's number.
  void drain();
  // After the mount is gone: until then clients may use what is open.
  void drop_handles();

  [[nodiscard]] const Config& config() const { return config_; }
  [[nodiscard]] store::Store& store() { return *store_; }
  // Null: this mount has no place for plain directories.
  [[nodiscard]] plain::PlainStore* plain() { return plain_; }
  // Held by whoever makes or renames what is in the root directory: namespaces and plain
  // directories have one set of names.
  [[nodiscard]] Mutex& root_names() { return root_names_; }
  [[nodiscard]] InodeTable& inodes() { return inodes_; }
  [[nodiscard]] HandleTable& handles() { return handles_; }
  [[nodiscard]] ParkedRequests& parked() { return parked_; }
  [[nodiscard]] BackingTable& backings() { return backings_; }
  [[nodiscard]] ImportTable& imports() { return imports_; }
  [[nodiscard]] Notifier& notifier() { return notifier_; }
  [[nodiscard]] OpMetrics& op_metrics() { return op_metrics_; }
  // Continuations of parked requests: short.
  [[nodiscard]] Worker& completions() { return completions_; }
  // Work that reads or checks much: imports, control requests.
  [[nodiscard]] Worker& jobs() { return jobs_; }

  // Whether slabs and index can be mapped; settled at INIT.
  [[nodiscard]] bool passthrough() const { return passthrough_.load(std::memory_order_relaxed); }
  void set_passthrough(bool on) { passthrough_.store(on, std::memory_order_relaxed); }

  // True once drain() has begun: what reads much ends.
  [[nodiscard]] const std::atomic<bool>& ending() const { return ending_; }

  [[nodiscard]] const store::Ownership& owner() const { return owner_; }  // of the root directory
  [[nodiscard]] std::time_t started_at() const { return started_at_; }
  void shut_down(ShutdownRequest request) { shut_down_(request); }

  // A prefix's attributes changed (a hit, a pin): the kernel asks again.
  void attributes_changed(std::uint32_t namespace_id, const Key& key);
  // The directory's owner or mode changed: so did everything below it.
  void ownership_changed(std::uint32_t namespace_id);

  void on_prefix_removed(std::uint32_t namespace_id, const Key& key) override;
  void on_slab_removed(std::uint32_t namespace_id, std::uint32_t slab) override;
  void on_namespace_removed(std::uint32_t namespace_id) override;
  void on_gone(const plain::NodePtr& node) override;

 private:
  // It is not there any more.
  void gone(const InodePtr& inode);

  const Config& config_;
  const std::function<void(ShutdownRequest)> shut_down_;
  store::Store* store_ = nullptr;
  plain::PlainStore* plain_ = nullptr;
  Mutex root_names_;
  store::Ownership owner_;
  std::time_t started_at_;
  std::atomic<bool> passthrough_{false};
  std::atomic<bool> ending_{false};

  InodeTable inodes_;
  HandleTable handles_;
  ParkedRequests parked_;
  BackingTable backings_;
  ImportTable imports_;
  OpMetrics op_metrics_;
  Notifier notifier_;
  Worker completions_;
  Worker jobs_;
};

}  // namespace kvfs::mount
