#include "fs/mount/ops.h"

#include "fs/mount/file_system.h"
#include "fs/mount/plain_ops.h"

namespace kvfs::mount {
namespace {

FileSystem& file_system(fuse_req_t req) {
  return *static_cast<FileSystem*>(fuse_req_userdata(req));
}

// Which node a request is about: the first it names (the directory, for a name in one).
template <typename... Rest>
fuse_ino_t node_of(fuse_ino_t node, Rest...) {
  return node;
}
template <typename... Rest>
fuse_ino_t node_of(const char* /*target of a symlink*/, fuse_ino_t parent, Rest...) {
  return parent;
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

// The one place where plain directories part from the rest.
template <Op op, auto function, auto plain_function>
struct Either;

template <Op op, typename... Args, void (*function)(FileSystem&, fuse_req_t, Args...),
          void (*plain_function)(FileSystem&, fuse_req_t, Args...)>
struct Either<op, function, plain_function> {
  static void call(fuse_req_t req, Args... args) {
    if ((node_of(args...) & kPlainNodes) != 0) {
      Timed<op, plain_function>::call(req, args...);
    } else {
      Timed<op, function>::call(req, args...);
    }
  }
};

void init(void* user, fuse_conn_info* conn) { op_init(*static_cast<FileSystem*>(user), conn); }

fuse_lowlevel_ops make_table() {
  fuse_lowlevel_ops ops{};
  ops.init = init;
  ops.lookup = Either<Op::kLookup, op_lookup, plain_lookup>::call;
  ops.forget = Timed<Op::kForget, op_forget>::call;
  ops.forget_multi = Timed<Op::kForget, op_forget_multi>::call;
  ops.getattr = Either<Op::kGetattr, op_getattr, plain_getattr>::call;
  ops.setattr = Either<Op::kSetattr, op_setattr, plain_setattr>::call;
  ops.readlink = Either<Op::kReadlink, op_readlink, plain_readlink>::call;
  ops.mkdir = Either<Op::kMkdir, op_mkdir, plain_mkdir>::call;
  ops.mknod = Either<Op::kMknod, op_mknod, plain_mknod>::call;
  ops.unlink = Either<Op::kUnlink, op_unlink, plain_unlink>::call;
  ops.rmdir = Either<Op::kRmdir, op_rmdir, plain_rmdir>::call;
  ops.symlink = Either<Op::kSymlink, op_symlink, plain_symlink>::call;
  ops.rename = Either<Op::kRename, op_rename, plain_rename>::call;
  ops.link = Either<Op::kLink, op_link, plain_link>::call;
  ops.open = Either<Op::kOpen, op_open, plain_open>::call;
  ops.create = Either<Op::kCreate, op_create, plain_create>::call;
  ops.read = Timed<Op::kRead, op_read>::call;
  ops.write = Timed<Op::kWrite, op_write>::call;
  ops.flush = Timed<Op::kFlush, op_flush>::call;
  ops.release = Timed<Op::kRelease, op_release>::call;
  ops.fsync = Timed<Op::kFsync, op_fsync>::call;
  ops.opendir = Either<Op::kOpendir, op_opendir, plain_opendir>::call;
  ops.readdir = Either<Op::kReaddir, op_readdir, plain_readdir>::call;
  ops.readdirplus = Either<Op::kReaddirplus, op_readdirplus, plain_readdirplus>::call;
  ops.fsyncdir = Either<Op::kFsyncdir, op_fsyncdir, plain_fsyncdir>::call;
  ops.statfs = Either<Op::kStatfs, op_statfs, plain_statfs>::call;
  ops.setxattr = Either<Op::kSetxattr, op_setxattr, plain_setxattr>::call;
  ops.getxattr = Either<Op::kGetxattr, op_getxattr, plain_getxattr>::call;
  ops.listxattr = Either<Op::kListxattr, op_listxattr, plain_listxattr>::call;
  ops.removexattr = Either<Op::kRemovexattr, op_removexattr, plain_removexattr>::call;
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
