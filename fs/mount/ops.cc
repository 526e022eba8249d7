#include "fs/mount/ops.h"

#include "fs/mount/file_system.h"

namespace kvfs::mount {
namespace {

FileSystem& file_system(fuse_req_t req) {
  return *static_cast<FileSystem*>(fuse_req_userdata(req));
}

// libfuse passes the request first; the file system comes from it.
template <Op op, auto function>
struct Timed;

template <Op op, typename... Args, void (*function)(FileSystem&, fuse_req_t, Args...)>
struct Timed<op, function> {
  static void call(fuse_req_t req, Args... args) {
    FileSystem& fs = file_system(req);
    const auto begin = std::chrono::steady_clock::now();
    function(fs, req, args...);
    fs.op_metrics().observe(op, std::chrono::steady_clock::now() - begin);
  }
};

void init(void* user, fuse_conn_info* conn) { op_init(*static_cast<FileSystem*>(user), conn); }

fuse_lowlevel_ops make_table() {
  fuse_lowlevel_ops ops{};
  ops.init = init;
  ops.lookup = Timed<Op::kLookup, op_lookup>::call;
  ops.forget = Timed<Op::kForget, op_forget>::call;
  ops.forget_multi = Timed<Op::kForget, op_forget_multi>::call;
  ops.getattr = Timed<Op::kGetattr, op_getattr>::call;
  ops.setattr = Timed<Op::kSetattr, op_setattr>::call;
  ops.readlink = Timed<Op::kReadlink, op_readlink>::call;
  ops.mkdir = Timed<Op::kMkdir, op_mkdir>::call;
  ops.mknod = Timed<Op::kMknod, op_mknod>::call;
  ops.unlink = Timed<Op::kUnlink, op_unlink>::call;
  ops.rmdir = Timed<Op::kRmdir, op_rmdir>::call;
  ops.symlink = Timed<Op::kSymlink, op_symlink>::call;
  ops.rename = Timed<Op::kRename, op_rename>::call;
  ops.link = Timed<Op::kLink, op_link>::call;
  ops.open = Timed<Op::kOpen, op_open>::call;
  ops.create = Timed<Op::kCreate, op_create>::call;
  ops.read = Timed<Op::kRead, op_read>::call;
  ops.write = Timed<Op::kWrite, op_write>::call;
  ops.flush = Timed<Op::kFlush, op_flush>::call;
  ops.release = Timed<Op::kRelease, op_release>::call;
  ops.fsync = Timed<Op::kFsync, op_fsync>::call;
  ops.opendir = Timed<Op::kOpendir, op_opendir>::call;
  ops.readdir = Timed<Op::kReaddir, op_readdir>::call;
  ops.readdirplus = Timed<Op::kReaddirplus, op_readdirplus>::call;
  ops.fsyncdir = Timed<Op::kFsyncdir, op_fsyncdir>::call;
  ops.statfs = Timed<Op::kStatfs, op_statfs>::call;
  ops.setxattr = Timed<Op::kSetxattr, op_setxattr>::call;
  ops.getxattr = Timed<Op::kGetxattr, op_getxattr>::call;
  ops.listxattr = Timed<Op::kListxattr, op_listxattr>::call;
  ops.removexattr = Timed<Op::kRemovexattr, op_removexattr>::call;
  ops.ioctl = Timed<Op::kIoctl, op_ioctl>::call;
  ops.fallocate = Timed<Op::kFallocate, op_fallocate>::call;
  return ops;
}

}  // namespace

const fuse_lowlevel_ops& operations() {
  static const fuse_lowlevel_ops table = make_table();
  return table;
}

}  // namespace kvfs::mount
