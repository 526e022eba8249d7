// Replies to the kernel. Every request gets exactly one.
#pragma once

#include "fs/mount/fuse_api.h"
#include "fs/mount/to_errno.h"

namespace kvfs::mount {

inline void reply_ok(fuse_req_t req) { fuse_reply_err(req, 0); }
inline void reply(fuse_req_t req, Refusal refusal) { fuse_reply_err(req, to_errno(refusal)); }
inline void reply(fuse_req_t req, const Error& error) { fuse_reply_err(req, to_errno(error.code)); }
inline void reply(fuse_req_t req, const Status& status) {
  if (status) {
    reply_ok(req);
  } else {
    reply(req, status.error());
  }
}

}  // namespace kvfs::mount
