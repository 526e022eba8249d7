#include "fs/mount/reply_pieces.h"

#include <climits>
#include <string>

namespace kvfs::mount {
namespace {

// libfuse puts its header in front, and writev(2) takes no more than IOV_MAX.
constexpr std::size_t kMaxPieces = IOV_MAX - 8;

}  // namespace

void reply_pieces(fuse_req_t req, const store::ReadPlan& plan) {
  if (plan.pieces.size() <= kMaxPieces) {
    fuse_reply_iov(req, plan.pieces.data(), static_cast<int>(plan.pieces.size()));
    return;
  }
  std::string joined;  // blocks of a few hundred bytes
  for (const iovec& piece : plan.pieces)
    joined.append(static_cast<const char*>(piece.iov_base), piece.iov_len);
  fuse_reply_buf(req, joined.data(), joined.size());
}

}  // namespace kvfs::mount
