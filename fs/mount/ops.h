// The operations of the file system, one file each: op_<name>.cc.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fs/mount/fuse_api.h"

namespace kvfs::mount {

class FileSystem;

void op_init(FileSystem& fs, fuse_conn_info* conn);
void op_lookup(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name);
void op_forget(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, std::uint64_t lookups);
void op_forget_multi(FileSystem& fs, fuse_req_t req, std::size_t count, fuse_forget_data* forgets);
void op_getattr(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi);
void op_setattr(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, struct stat* attr, int to_set,
                fuse_file_info* fi);
void op_readlink(FileSystem& fs, fuse_req_t req, fuse_ino_t ino);
void op_mkdir(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode);
void op_mknod(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode,
              dev_t device);
void op_unlink(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name);
void op_rmdir(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name);
void op_symlink(FileSystem& fs, fuse_req_t req, const char* target, fuse_ino_t parent,
                const char* name);
void op_rename(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name,
               fuse_ino_t new_parent, const char* new_name, unsigned int flags);
void op_link(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent,
             const char* new_name);
void op_open(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi);
void op_create(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode,
               fuse_file_info* fi);
void op_read(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset,
             fuse_file_info* fi);
void op_write(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, const char* bytes, std::size_t size,
              off_t offset, fuse_file_info* fi);
void op_flush(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi);
void op_release(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi);
void op_fsync(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, int datasync, fuse_file_info* fi);
void op_opendir(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi);
void op_readdir(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset,
                fuse_file_info* fi);
void op_readdirplus(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset,
                    fuse_file_info* fi);
void op_fsyncdir(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, int datasync, fuse_file_info* fi);
void op_statfs(FileSystem& fs, fuse_req_t req, fuse_ino_t ino);
void op_setxattr(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, const char* name,
                 const char* value, std::size_t size, int flags);
void op_getxattr(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, const char* name,
                 std::size_t size);
void op_listxattr(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, std::size_t size);
void op_removexattr(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, const char* name);
void op_ioctl(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, unsigned int command, void* arg,
              fuse_file_info* fi, unsigned int flags, const void* in, std::size_t in_bytes,
              std::size_t out_bytes);
void op_fallocate(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, int mode, off_t offset,
                  off_t length, fuse_file_info* fi);

// The table for libfuse; every entry is counted and timed.
const fuse_lowlevel_ops& operations();

}  // namespace kvfs::mount
