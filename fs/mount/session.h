// Session: the connection to the kernel.
#pragma once

#include <memory>

#include "fs/mount/config.h"
#include "fs/mount/fuse_api.h"

namespace kvfs::mount {

class FileSystem;

// Threads: end() from any; the rest from one.
// Owns:    the mount: it is gone when this is destroyed.
// Blocks:  serve(), until end() or until somebody unmounts.
// Errors:  mount(): what the kernel said.
class Session {
 public:
  static Result<std::unique_ptr<Session>> mount(const Config& config, FileSystem& fs);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  [[nodiscard]] fuse_session* get() const { return session_; }
  Status serve();
  void end() { fuse_session_exit(session_); }
  void unmount();

 private:
  Session(const Config& config, fuse_session* session) : config_(config), session_(session) {}
  const Config& config_;
  fuse_session* session_;
  bool mounted_ = true;
};

}  // namespace kvfs::mount
