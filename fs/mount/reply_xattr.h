#pragma once

#include <string>

#include "fs/mount/reply.h"
#include "fs/mount/xattrs.h"

namespace kvfs::mount {

// Answers as getxattr(2) and listxattr(2) want it: the size when `room` is 0.
inline void reply_xattr(fuse_req_t req, const XattrResult<std::string>& value, std::size_t room) {
  if (!value) {
    fuse_reply_err(req, value.error());
  } else if (room == 0) {
    fuse_reply_xattr(req, value->size());
  } else if (room < value->size()) {
    reply(req, Refusal::kBufferTooSmall);
  } else {
    fuse_reply_buf(req, value->data(), value->size());
  }
}

}  // namespace kvfs::mount
