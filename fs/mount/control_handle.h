// ControlHandle: an open control file (lib/format/control.md).
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "fs/mount/control_call.h"
#include "fs/mount/handle.h"
#include "fs/mount/pending_reply.h"
#include "fs/mutex.h"

namespace kvfs::mount {

inline constexpr std::size_t kMaxControlRequest = 1 << 20;

// States: collecting -> answering, when what was written is one JSON value: it is carried out
// before the write returns; -> collecting again by the next write. A read while collecting answers
// that the request is not JSON. A request that comes while another is answering takes its place:
// the other's answer is dropped, and it does not begin any more if it has not.
//
// Threads: as Handle.
// Owns:    the request and the answer.
// Blocks:  never: requests run as jobs, one that has not begun for each handle.
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
  // A whole request, and who waits for its answer.
  struct Call {
    std::string text;
    std::size_t written = 0;   // by the last write of it
    std::uint64_t number = 0;  // of that write: the answer counts while there is no later one
    PendingReply pending;
  };

  std::shared_ptr<ControlHandle> self() {
    return std::static_pointer_cast<ControlHandle>(shared_from_this());
  }
  void begin(FileSystem& fs);
  void answered(std::uint64_t number, const nlohmann::json& answer, std::function<void()> after);
  void finish();

  const Run run_;
  Mutex mutex_;
  std::string request_ GUARDED_BY(mutex_);
  std::optional<Call> next_ GUARDED_BY(mutex_);  // a job is posted for it
  std::uint64_t writes_ GUARDED_BY(mutex_) = 0;
  std::string answer_ GUARDED_BY(mutex_);
  std::size_t answered_ GUARDED_BY(mutex_) = 0;  // bytes of it that were read
  std::function<void()> after_ GUARDED_BY(mutex_);
};

}  // namespace kvfs::mount
