#include "tools/cli/json_file.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "fs/unique_fd.h"
#include "tools/cli/mount_point.h"

namespace kvfs::cli {

namespace {

tl::unexpected<Error> fail_read(int error, const std::string& path, std::string_view doing) {
  const Code code = error == ENOENT         ? Code::kNotFound
                    : error == EACCES       ? Code::kPermission
                    : daemon_is_gone(error) ? Code::kUnavailable
                                            : Code::kIo;
  return fail(code, fmt::format("{} cannot be {}: {}", path, doing, std::strerror(error)));
}

}  // namespace

Result<std::string> read_text(const std::string& path) {
  UniqueFd opened;
  if (path != "-") opened = UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const int fd = path == "-" ? STDIN_FILENO : opened.get();
  if (fd < 0) return fail_read(errno, path, "opened");
  std::string text;
  std::array<char, 65536> piece{};
  for (;;) {
    const ssize_t got = ::read(fd, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_read(errno, path, "read");
    if (got == 0) return text;
    text.append(piece.data(), static_cast<std::size_t>(got));
  }
}

Result<nlohmann::json> read_json(const std::string& path) {
  Result<std::string> text = read_text(path);
  if (!text) return pass(std::move(text));
  try {
    return nlohmann::json::parse(*text);
  } catch (const nlohmann::json::parse_error& error) {
    return fail(Code::kInvalid,
                fmt::format("{} is not JSON (byte {}): give a JSON file", path, error.byte));
  }
}

}  // namespace kvfs::cli
