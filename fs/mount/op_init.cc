#include <spdlog/spdlog.h>

#include <algorithm>

#include "fs/mount/file_system.h"
#include "fs/mount/ops.h"
#include "fs/mount/privilege.h"

namespace kvfs::mount {
namespace {

bool want(fuse_conn_info* conn, std::uint64_t feature) {
  return (conn->capable_ext & feature) != 0 && fuse_set_feature_flag(conn, feature);
}

}  // namespace

void op_init(FileSystem& fs, fuse_conn_info* conn) {
  const Config& config = fs.config();
  const auto request = static_cast<unsigned>(config.max_read);
  conn->max_read = request;  // must be the mount option's
  conn->max_write = std::max(request, 1U << 20);
  conn->max_readahead = static_cast<unsigned>(config.readahead);
  conn->max_background = 256;
  conn->time_gran = 1;

  const bool passthrough = config.passthrough != Passthrough::kOff && may_pass_through() &&
                           want(conn, FUSE_CAP_PASSTHROUGH);
  fs.set_passthrough(passthrough);
  if (config.passthrough == Passthrough::kOn && !passthrough) {
    spdlog::error(
        "passthrough: on, but this kernel does not have it (Linux 6.9 does): clients fall back to "
        "read(2)");
  }
  // Without it every passthrough write asks for security.capability first.
  want(conn, FUSE_CAP_HANDLE_KILLPRIV_V2);
  want(conn, FUSE_CAP_PARALLEL_DIROPS);
  want(conn, FUSE_CAP_DIRECT_IO_ALLOW_MMAP);
  fs.notifier().set_can_prune(conn->proto_major == 7 && conn->proto_minor >= 45);
  // Contents never change behind an inode: nothing to invalidate, no attribute check before reads.
  fuse_unset_feature_flag(conn, FUSE_CAP_AUTO_INVAL_DATA);
  if (!config.uring) fuse_unset_feature_flag(conn, FUSE_CAP_OVER_IO_URING);
  spdlog::debug("fuse protocol {}.{}, passthrough {}", conn->proto_major, conn->proto_minor,
                passthrough ? "on" : "off");
}

}  // namespace kvfs::mount
