#include "fs/tiers/segment_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string_view>

#include "fs/tiers/directory_names.h"

namespace kvfs::tiers {
namespace {

constexpr std::string_view kSuffix = ".seg";

std::string file_name(std::uint32_t segment) { return fmt::format("{}{}", segment, kSuffix); }

std::optional<std::uint32_t> segment_named(std::string_view name) {
  if (!name.ends_with(kSuffix)) return std::nullopt;
  return number_of(name.substr(0, name.size() - kSuffix.size()));
}

}  // namespace

std::string SegmentFiles::path_of(std::uint32_t segment) const {
  return fmt::format("{}/segments/{}", directories_[directory_of(segment)].path,
                     file_name(segment));
}

Result<SegmentFiles::Scan> SegmentFiles::scan(std::uint32_t directory) const {
  const OpenNvmeDirectory& opened = directories_[directory];
  auto names = names_in(opened.segments.get());
  if (!names) return pass(std::move(names));
  Scan scan;
  for (const std::string& name : *names) {
    struct stat info {};
    const bool known =
        ::fstatat(opened.segments.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0;
    const auto segment = segment_named(name);
    const bool has_a_name_of_ours = segment && directory_of(*segment) == directory;
    if (known && S_ISREG(info.st_mode) && has_a_name_of_ours) {
      scan.found.emplace(*segment, static_cast<std::uint64_t>(info.st_size));
    } else {
      spdlog::warn(
          "{}/segments/{} is not a segment of this directory and is left alone; move it "
          "elsewhere, its bytes do not count against the capacity",
          opened.path, name);
    }
    if (has_a_name_of_ours) {
      scan.next_turn = std::max(scan.next_turn, *segment / directories() + 1);
    }
  }
  return scan;
}

Result<std::shared_ptr<IoFile>> SegmentFiles::open(std::uint32_t segment, int more_flags) const {
  UniqueFd fd(::openat(directories_[directory_of(segment)].segments.get(),
                       file_name(segment).c_str(),
                       O_RDWR | O_DIRECT | O_CLOEXEC | O_NOFOLLOW | more_flags, 0600));
  if (!fd.valid()) return fail_errno(errno, fmt::format("opening {}", path_of(segment)));
  return std::make_shared<IoFile>(std::move(fd), path_of(segment));
}

Result<std::shared_ptr<IoFile>> SegmentFiles::open(std::uint32_t segment) const {
  return open(segment, 0);
}

Result<std::shared_ptr<IoFile>> SegmentFiles::make(std::uint32_t segment,
                                                   std::uint64_t bytes) const {
  auto file = open(segment, O_CREAT | O_EXCL);
  if (!file) return file;
  if (::fallocate((*file)->fd.get(), 0, 0, static_cast<off_t>(bytes)) != 0) {
    const int error = errno;
    remove(segment);
    return fail_errno(error, fmt::format("preallocating {} bytes for {}", bytes, (*file)->path));
  }
  return file;
}

void SegmentFiles::remove(std::uint32_t segment) const {
  ::unlinkat(directories_[directory_of(segment)].segments.get(), file_name(segment).c_str(), 0);
}

Status SegmentFiles::sync_names(std::uint32_t directory) const {
  const OpenNvmeDirectory& opened = directories_[directory];
  if (::fsync(opened.segments.get()) == 0) return {};
  return fail_errno(errno, fmt::format("fsync of {}/segments", opened.path));
}

}  // namespace kvfs::tiers
