#include "fs/tiers/directory_names.h"

#include <dirent.h>
#include <fcntl.h>

#include <cerrno>
#include <charconv>
#include <memory>

#include "fs/unique_fd.h"

namespace kvfs::tiers {

Result<std::vector<std::string>> names_in(int directory) {
  // A descriptor of its own: reading moves the position of the one it reads through.
  UniqueFd fd(::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return fail_errno(errno, "opening a directory to list it");
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(fd.get()), ::closedir);
  if (stream == nullptr) return fail_errno(errno, "listing a directory");
  (void)fd.release();  // the stream has it
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(stream.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  if (errno != 0) return fail_errno(errno, "listing a directory");
  return names;
}

std::optional<std::uint32_t> number_of(std::string_view text) {
  std::uint32_t number = 0;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc{} || at != end || (text.size() > 1 && text.front() == '0')) {
    return std::nullopt;
  }
  return number;
}

}  // namespace kvfs::tiers
