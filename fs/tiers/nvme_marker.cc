#include "fs/tiers/nvme_marker.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "fs/unique_fd.h"

namespace kvfs::tiers {
namespace {

constexpr std::uint32_t kFormat = 1;
constexpr std::size_t kMaxBytes = 4096;

}  // namespace

Result<NvmeMarker> read_nvme_marker(int directory, const std::string& path) {
  const std::string name(kMarkerName);
  UniqueFd fd(::openat(directory, name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) {
    if (errno == ENOENT) return fail(Code::kNotFound, fmt::format("{} has no {}", path, name));
    return fail_errno(errno, fmt::format("opening {}/{}", path, name));
  }
  std::array<char, kMaxBytes> text{};
  const ssize_t bytes = ::read(fd.get(), text.data(), text.size());
  if (bytes < 0) return fail_errno(errno, fmt::format("reading {}/{}", path, name));

  const auto json = nlohmann::json::parse(text.data(), text.data() + bytes, nullptr, false);
  const auto corrupt = [&] {
    return fail(Code::kCorrupt,
                fmt::format("{}/{} is damaged; if nothing in the directory is needed, empty it and "
                            "start again",
                            path, name));
  };
  if (!json.is_object() || !json.contains("format")) return corrupt();
  try {
    if (const auto format = json.at("format").get<std::uint32_t>(); format != kFormat) {
      return fail(Code::kMismatch,
                  fmt::format("{} has format {}, this version reads {}; empty the directory or use "
                              "the version that wrote it",
                              path, format, kFormat));
    }
    NvmeMarker marker{.store_id = json.at("store_id").get<std::string>(),
                      .index = json.at("index").get<std::uint32_t>(),
                      .directories = json.at("directories").get<std::uint32_t>()};
    if (marker.index >= marker.directories) return corrupt();
    return marker;
  } catch (const nlohmann::json::exception&) {
    return corrupt();
  }
}

Status write_nvme_marker(int directory, const std::string& path, const NvmeMarker& marker) {
  const std::string name(kMarkerName);
  const std::string temporary = name + ".tmp";
  const std::string text = nlohmann::json{{"format", kFormat},
                                          {"store_id", marker.store_id},
                                          {"index", marker.index},
                                          {"directories", marker.directories}}
                               .dump() +
                           "\n";
  UniqueFd fd(::openat(directory, temporary.c_str(),
                       O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return fail_errno(errno, fmt::format("creating {}/{}", path, temporary));
  const ssize_t written = ::write(fd.get(), text.data(), text.size());
  if (written != static_cast<ssize_t>(text.size())) {
    return fail_errno(written < 0 ? errno : ENOSPC, fmt::format("writing {}/{}", path, temporary));
  }
  if (::fsync(fd.get()) != 0 ||
      ::renameat(directory, temporary.c_str(), directory, name.c_str()) != 0 ||
      ::fsync(directory) != 0) {
    return fail_errno(errno, fmt::format("writing {}/{}", path, name));
  }
  return {};
}

}  // namespace kvfs::tiers
