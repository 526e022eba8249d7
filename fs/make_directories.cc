#include "fs/make_directories.h"

#include <fmt/format.h>

#include <filesystem>
#include <system_error>

namespace kvfs {

Status make_directories(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (!error) return {};
  const Code code = error == std::errc::permission_denied ? Code::kPermission : Code::kIo;
  return fail(code, fmt::format("creating {}: {}", path, error.message()));
}

}  // namespace kvfs
