// Session: one attachment to a namespace of one running daemon.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "lib/client/descriptor.h"
#include "lib/client/devices.h"
#include "lib/client/slab_map.h"
#include "lib/format/geometry.h"
#include "lib/format/result.h"

namespace kvfs::client {

struct SessionOptions {
  std::string mount;
  std::string name;  // of the namespace
  bool read_only = false;
  bool force_fallback = false;
};

// When the daemon goes the session is lost for good: calls on it fail, what is mapped stays
// readable, and the client opens another one.
// Threads: calls from any thread.
// Owns:    the namespace directory's descriptor and the mapped slabs.
// Blocks:  open() asks the daemon, and checked() does for a result that says kCorrupt or kIo.
// Errors:  kNotFound: no kvfs mount or no namespace; kMismatch: another version; kUnavailable: no
//          daemon answers.
class Session {
 public:
  static Result<std::shared_ptr<Session>> open(const SessionOptions& options, Devices& devices);

  [[nodiscard]] int directory() const { return directory_.get(); }
  [[nodiscard]] const Geometry& geometry() const { return geometry_; }
  [[nodiscard]] bool mapped() const { return mapped_; }  // false: fallback
  [[nodiscard]] SlabMap& slabs() { return slabs_; }

  [[nodiscard]] bool lost() const { return lost_.load(std::memory_order_relaxed); }
  // Takes note when a result of a call on this session says that the daemon is gone.
  template <typename R>
  R&& checked(R&& result) {
    if (!result) note(result.error());
    return std::forward<R>(result);
  }

  Session(Descriptor directory, Geometry geometry, bool mapped, bool read_only, Devices& devices);

 private:
  // EIO is what the kernel has, too, for some of the calls that a dying daemon leaves behind: only
  // one that is still there has looked at the block.
  void note(Error& error);

  const Descriptor directory_;
  const Geometry geometry_;
  const bool mapped_;
  std::atomic<bool> lost_{false};
  SlabMap slabs_;
};

// Opens a mount's root after making sure that it is one.
Result<Descriptor> open_mount(const std::string& mount);

}  // namespace kvfs::client
