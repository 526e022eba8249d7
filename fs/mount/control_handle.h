// ControlHandle: an open control file (lib/format/control.md).
#pragma once

#include <functional>
#include <string>

#include "fs/mount/control_call.h"
#include "fs/mount/handle.h"
#include "fs/mount/pending_reply.h"
#include "fs/mutex.h"

namespace kvfs::mount {

inline constexpr std::size_t kMaxControlRequest = 1 << 20;

// States: collecting -> answering, when what was written is one JSON value: it is carried out
// before the write returns; -> collecting again by the next write. A read while collecting answers
// that the request is not JSON.
//
// Threads: as Handle.
// Owns:    the request and the answer.
// Blocks:  never: requests run as jobs.
// Errors:  as JSON; a request over 1 MiB as E2BIG.
class ControlHandle final : public Handle {
 public:
  using Run = void (*)(FileSystem&, const Inode&, const nlohmann::json& request,
                       const ControlRespond& respond);
  ControlHandle(InodePtr inode, Run run) : Handle(std::move(inode)), run_(run) {}

  void read(FileSystem& fs, fuse_req_t req, std::uint64_t offset, std::size_t size) override;
  void write(FileSystem& fs, fuse_req_t req, std::uint64_t offset,
             std::span<const char> bytes) override;
  void released(FileSystem& fs) override;

 private:
  void answered(const nlohmann::json& answer, std::function<void()> after);
  void finish();

  const Run run_;
  Mutex mutex_;
  std::string request_ GUARDED_BY(mutex_);
  std::string answer_ GUARDED_BY(mutex_);
  std::size_t answered_ GUARDED_BY(mutex_) = 0;  // bytes of it that were read
  std::function<void()> after_ GUARDED_BY(mutex_);
};

}  // namespace kvfs::mount
