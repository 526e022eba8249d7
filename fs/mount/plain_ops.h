// The operations on what is in plain directories: ops.cc calls these in place of op_<name> where
// the node id says so (kPlainNodes). What works on a descriptor (read, write, flush, fsync,
// release, fallocate) goes to its PlainHandle, as all descriptors do. Each is one or two system
// calls on the file system below, whose errno is passed on.
#pragma once

#include <sys/stat.h>

#include <cstddef>

#include "fs/mount/fuse_api.h"

namespace kvfs::mount {

class FileSystem;

// plain_names.cc
void plain_lookup(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name);
void plain_mkdir(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode);
void plain_mknod(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode,
                 dev_t device);
void plain_symlink(FileSystem& fs, fuse_req_t req, const char* target, fuse_ino_t parent,
                   const char* name);
void plain_unlink(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name);
void plain_rmdir(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name);
void plain_rename(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name,
                  fuse_ino_t new_parent, const char* new_name, unsigned int flags);
void plain_link(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent,
                const char* new_name);

// plain_open.cc
void plain_open(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi);
void plain_create(FileSystem& fs, fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode,
                  fuse_file_info* fi);

// plain_directories.cc
void plain_opendir(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi);
void plain_readdir(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset,
                   fuse_file_info* fi);
void plain_readdirplus(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, std::size_t size,
                       off_t offset, fuse_file_info* fi);
void plain_fsyncdir(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, int datasync,
                    fuse_file_info* fi);
void plain_statfs(FileSystem& fs, fuse_req_t req, fuse_ino_t ino);

// plain_attributes.cc
void plain_getattr(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi);
void plain_setattr(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, struct stat* attr, int to_set,
                   fuse_file_info* fi);
void plain_readlink(FileSystem& fs, fuse_req_t req, fuse_ino_t ino);

// plain_xattrs.cc
void plain_setxattr(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, const char* name,
                    const char* value, std::size_t size, int flags);
void plain_getxattr(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, const char* name,
                    std::size_t size);
void plain_listxattr(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, std::size_t size);
void plain_removexattr(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, const char* name);

}  // namespace kvfs::mount
