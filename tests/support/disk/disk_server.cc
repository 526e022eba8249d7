// A file system that shows a directory, for tests that need a disk which stops answering: they stop
// this process (SIGSTOP), and every request to the disk waits until it goes on.
#define FUSE_USE_VERSION 317

#include <dirent.h>
#include <fcntl.h>
#include <fuse.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace {

std::string directory;  // what is shown

std::string below(const char* path) { return directory + path; }
int result(int returned) { return returned < 0 ? -errno : returned; }
int file_of(const fuse_file_info* info) { return static_cast<int>(info->fh); }

void* init(fuse_conn_info*, fuse_config* config) {
  config->hard_remove = 1;
  config->use_ino = 1;
  return nullptr;
}

int get_attributes(const char* path, struct stat* attributes, fuse_file_info* info) {
  return result(info != nullptr ? ::fstat(file_of(info), attributes)
                                : ::lstat(below(path).c_str(), attributes));
}

int read_directory(const char* path, void* buffer, fuse_fill_dir_t fill, off_t, fuse_file_info*,
                   fuse_readdir_flags) {
  DIR* entries = ::opendir(below(path).c_str());
  if (entries == nullptr) return -errno;
  while (const dirent* entry = ::readdir(entries)) {
    fill(buffer, entry->d_name, nullptr, 0, fuse_fill_dir_flags{});
  }
  ::closedir(entries);
  return 0;
}

int open_file(const char* path, fuse_file_info* info, int flags, mode_t mode) {
  const int file = ::open(below(path).c_str(), (flags & ~O_DIRECT) | O_CLOEXEC, mode);
  if (file < 0) return -errno;
  info->fh = static_cast<std::uint64_t>(file);
  return 0;
}

const fuse_operations kOperations = [] {
  fuse_operations operations{};
  operations.init = init;
  operations.getattr = get_attributes;
  operations.readdir = read_directory;
  operations.mkdir = [](const char* path, mode_t mode) {
    return result(::mkdir(below(path).c_str(), mode));
  };
  operations.unlink = [](const char* path) { return result(::unlink(below(path).c_str())); };
  operations.rmdir = [](const char* path) { return result(::rmdir(below(path).c_str())); };
  operations.rename = [](const char* from, const char* to, unsigned int) {
    return result(::rename(below(from).c_str(), below(to).c_str()));
  };
  operations.chmod = [](const char* path, mode_t mode, fuse_file_info*) {
    return result(::chmod(below(path).c_str(), mode));
  };
  operations.truncate = [](const char* path, off_t bytes, fuse_file_info*) {
    return result(::truncate(below(path).c_str(), bytes));
  };
  operations.create = [](const char* path, mode_t mode, fuse_file_info* info) {
    return open_file(path, info, info->flags | O_CREAT, mode);
  };
  operations.open = [](const char* path, fuse_file_info* info) {
    return open_file(path, info, info->flags, 0);
  };
  operations.read = [](const char*, char* buffer, std::size_t bytes, off_t at,
                       fuse_file_info* info) {
    return result(static_cast<int>(::pread(file_of(info), buffer, bytes, at)));
  };
  operations.write = [](const char*, const char* buffer, std::size_t bytes, off_t at,
                        fuse_file_info* info) {
    return result(static_cast<int>(::pwrite(file_of(info), buffer, bytes, at)));
  };
  operations.fallocate = [](const char*, int mode, off_t at, off_t bytes, fuse_file_info* info) {
    return result(::fallocate(file_of(info), mode, at, bytes));
  };
  operations.fsync = [](const char*, int, fuse_file_info* info) {
    return result(::fdatasync(file_of(info)));
  };
  operations.fsyncdir = [](const char*, int, fuse_file_info*) { return 0; };
  operations.release = [](const char*, fuse_file_info* info) {
    return result(::close(file_of(info)));
  };
  operations.statfs = [](const char* path, struct statvfs* space) {
    return result(::statvfs(below(path).c_str(), space));
  };
  return operations;
}();

}  // namespace

// disk_server DIRECTORY MOUNTPOINT: until it is unmounted, in the foreground.
int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s DIRECTORY MOUNTPOINT\n", argv[0]);
    return 2;
  }
  directory = argv[1];
  std::array<char*, 6> arguments{argv[0],
                                 argv[2],
                                 const_cast<char*>("-f"),
                                 const_cast<char*>("-o"),
                                 const_cast<char*>("fsname=disk,subtype=test"),
                                 nullptr};
  return fuse_main(5, arguments.data(), &kOperations, nullptr);
}
