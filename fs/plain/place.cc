#include "fs/plain/place.h"

#include <fcntl.h>
#include <fmt/format.h>

namespace kvfs::plain {

OsResult<Place> Place::reach(int root, std::string_view path) {
  Place place(root, {});
  for (std::size_t end = path.find('/'); end != std::string_view::npos; end = path.find('/')) {
    const std::string name(path.substr(0, end));
    UniqueFd next(
        ::openat(place.directory_, name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!next.valid()) return tl::unexpected(errno);
    place.directory_ = next.get();
    place.own_ = std::move(next);
    path.remove_prefix(end + 1);
  }
  place.name_ = path;
  return place;
}

OsResult<struct stat> Place::attributes() const {
  struct stat found {};
  if (::fstatat(directory_, name(), &found, AT_SYMLINK_NOFOLLOW) != 0) return tl::unexpected(errno);
  return found;
}

OsResult<UniqueFd> Place::open_directory() const {
  UniqueFd fd(::openat(directory_, name(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) return tl::unexpected(errno);
  return fd;
}

std::string Place::absolute() const {
  return fmt::format("/proc/self/fd/{}/{}", directory_, name_);
}

}  // namespace kvfs::plain
