// Replies to the kernel. Every request gets exactly one.
#pragma once

#include "fs/mount/fuse_api.h"
#include "fs/mount/to_errno.h"
#include "fs/plain/os_result.h"

namespace kvfs::mount {

inline void reply_ok(fuse_req_t req) { fuse_reply_err(req, 0); }
inline void reply(fuse_req_t req, Refusal refusal) { fuse_reply_err(req, to_errno(refusal)); }
inline void reply(fuse_req_t req, const Error& error) { fuse_reply_err(req, to_errno(error.code)); }
// What the file system below a plain directory said, passed on.
inline void reply_os(fuse_req_t req, const plain::OsStatus& status) {
  fuse_reply_err(req, status ? 0 : status.error());
}
inline void reply(fuse_req_t req, const Status& status) {
  if (status) {
    reply_ok(req);
  } else {
    reply(req, status.error());
  }
}

}  // namespace kvfs::mount
