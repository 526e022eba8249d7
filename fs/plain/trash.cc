#include "fs/plain/trash.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>

namespace kvfs::plain {
namespace {

void delete_all(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) spdlog::error("{}: cannot be removed: {}", path.string(), error.message());
}

}  // namespace

OsStatus Trash::open() {
  if (::mkdir(path_.c_str(), 0700) != 0 && errno != EEXIST) return tl::unexpected(errno);
  std::error_code error;
  for (const auto& left : std::filesystem::directory_iterator(path_, error))
    delete_all(left.path());
  if (error) return tl::unexpected(error.value());
  return {};
}

OsStatus Trash::take(const Place& from, std::uint64_t inode) const {
  if (::renameat(from.directory(), from.name(), AT_FDCWD, place(inode).c_str()) == 0) return {};
  return tl::unexpected(errno);
}

void Trash::remove(std::uint64_t inode) const { delete_all(place(inode)); }

std::string Trash::place(std::uint64_t inode) const { return path_ + "/" + std::to_string(inode); }

}  // namespace kvfs::plain
