#include "fs/mount/notifier.h"

namespace kvfs::mount {

void Notifier::forget_entry(fuse_ino_t parent, std::string name) {
  worker_.post([this, parent, name = std::move(name)] {
    if (session_ != nullptr)
      fuse_lowlevel_notify_inval_entry(session_, parent, name.c_str(), name.size());
  });
}

void Notifier::forget_attributes(fuse_ino_t inode) {
  worker_.post([this, inode] {
    // A negative offset leaves cached pages alone.
    if (session_ != nullptr) fuse_lowlevel_notify_inval_inode(session_, inode, -1, 0);
  });
}

}  // namespace kvfs::mount
