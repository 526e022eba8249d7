#include "fs/plain/scan.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>
#include <memory>
#include <vector>

#include "fs/plain/place.h"
#include "fs/unique_fd.h"

namespace kvfs::plain {
namespace {

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};
using DirectoryStream = std::unique_ptr<DIR, CloseDirectory>;

OsResult<UniqueFd> open_directory(int root, const std::string& path) {
  return Place::reach(root, path).and_then(&Place::open_directory);
}

OsResult<DirectoryStream> open_stream(int root, const std::string& path) {
  auto fd = open_directory(root, path);
  if (!fd) return tl::unexpected(fd.error());
  DirectoryStream stream(::fdopendir(fd->get()));
  if (stream == nullptr) return tl::unexpected(errno);
  static_cast<void>(fd->release());
  return stream;
}

bool is_dot(const char* name) {
  return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

}  // namespace

Status walk(int root, const std::string& name, const std::atomic<bool>& stopping,
            const std::function<void(const FoundFile&)>& each) {
  const auto top = open_directory(root, name);
  if (!top) return fail_errno(top.error(), fmt::format("reading {}", name));
  Status outcome;
  std::vector<std::string> todo{""};  // directories, below `name`
  while (!todo.empty() && !stopping) {
    const std::string below = std::move(todo.back());
    todo.pop_back();
    const auto failed = [&](int error) {
      if (!went(error)) outcome = fail_errno(error, fmt::format("reading {}/{}", name, below));
    };
    const auto stream = open_stream(top->get(), below.empty() ? "." : below);
    if (!stream) {
      failed(stream.error());
      continue;
    }
    const int fd = ::dirfd(stream->get());
    while (!stopping) {
      errno = 0;
      const dirent* entry = ::readdir(stream->get());
      if (entry == nullptr) {
        if (errno != 0) failed(errno);
        break;
      }
      if (is_dot(entry->d_name)) continue;
      struct stat status {};
      if (::fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) {
        failed(errno);
        continue;
      }
      const std::string path = below.empty() ? entry->d_name : below + "/" + entry->d_name;
      if (S_ISDIR(status.st_mode)) todo.push_back(path);
      each({fd, entry->d_name, path, status});
    }
  }
  return outcome;
}

Status scan(int root, const std::string& name, const std::atomic<bool>& stopping,
            const std::function<void(const FoundFile&)>& each) {
  return walk(root, name, stopping, [&](const FoundFile& file) {
    if (S_ISREG(file.status.st_mode)) each(file);
  });
}

}  // namespace kvfs::plain
