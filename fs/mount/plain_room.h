#pragma once

#include <functional>

#include "fs/mount/file_system.h"
#include "fs/mount/reply.h"
#include "fs/plain/plain_store.h"

namespace kvfs::mount {

// Calls `then` with a request once a directory has room for `bytes` more: at once, or as a job
// after others were evicted. ENOSPC when that takes longer than store_timeout.
template <typename Then>
void when_room(FileSystem& fs, fuse_req_t req, const plain::DirectoryPtr& directory,
               std::uint64_t bytes, Then then) {
  plain::Evictor& evictor = fs.plain()->evictor();
  if (evictor.has_room(*directory, bytes)) return then(req);
  const auto deadline = store::Clock::now() + fs.config().store_timeout;
  fs.jobs().post([&evictor, directory, bytes, deadline, pending = fs.parked().park(req),
                  then = std::move(then)] {
    if (pending.answered()) return;  // interrupted while others had their turn
    if (!evictor.wait_for_room(*directory, bytes, deadline)) {
      pending.refuse(Error{Code::kNoSpace, {}});
    } else {
      pending.answer(then);
    }
  });
}

}  // namespace kvfs::mount
