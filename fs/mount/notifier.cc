#include "fs/mount/notifier.h"

#include <linux/fuse.h>
#include <unistd.h>

#include <future>
#include <memory>

#include "lib/format/result.h"

namespace kvfs::mount {
namespace {

// FUSE_NOTIFY_PRUNE of protocol 7.45, which older headers and libfuse < 3.19 do not have.
constexpr std::int32_t kNotifyPrune = 9;
struct PruneMessage {
  fuse_out_header header;
  std::uint32_t count;
  std::uint32_t padding;
  std::uint64_t spare;
  std::uint64_t nodeid;
};
static_assert(sizeof(PruneMessage) == 40);

}  // namespace

void Notifier::forget_attributes(fuse_ino_t inode) {
  worker_.post([this, inode] {
    // A negative offset leaves cached pages alone.
    if (session_ != nullptr) fuse_lowlevel_notify_inval_inode(session_, inode, -1, 0);
  });
}

void Notifier::forget_inode(fuse_ino_t inode) {
  forget_attributes(inode);
  if (!can_prune_) return;
  worker_.post([this, inode] {
    if (session_ != nullptr) prune(inode);
  });
}

void Notifier::catch_up() {
  auto told = std::make_shared<std::promise<void>>();
  const std::future<void> all = told->get_future();
  worker_.post([told] { told->set_value(); });
  told.reset();  // a worker that has stopped destroys the job, which ends the wait, too
  all.wait();
}

void Notifier::prune(fuse_ino_t inode) const {
  const PruneMessage message{.header = {.len = sizeof message, .error = kNotifyPrune, .unique = 0},
                             .count = 1,
                             .padding = 0,
                             .spare = 0,
                             .nodeid = inode};
  [[maybe_unused]] const ssize_t written =
      ::write(fuse_session_fd(session_), &message, sizeof message);
}

}  // namespace kvfs::mount
