#include "fs/tiers/nvme_directory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <utility>

#include "fs/tiers/directory_names.h"
#include "fs/tiers/nvme_marker.h"

namespace kvfs::tiers {
namespace {

constexpr std::size_t kDirectAlignment = 4096;
constexpr long kTmpfsMagic = 0x01021994;
constexpr std::string_view kProbeName = "kvfs-probe.tmp";
constexpr std::string_view kMarkerTemporary = "kvfs-tier.json.tmp";

struct Candidate {
  OpenNvmeDirectory directory;
  std::optional<NvmeMarker> marker;
};

bool ours(std::string_view name) {
  return name == kMarkerName || name == "segments" || name == "lost+found" || name == kProbeName ||
         name == kMarkerTemporary;
}

// Who holds a flock on this file, from /proc/locks ("1: FLOCK ADVISORY WRITE <pid> <maj:min:inode>
// ...").
std::string lock_holder(const struct stat& file) {
  const std::string id =
      fmt::format("{:02x}:{:02x}:{}", ::major(file.st_dev), ::minor(file.st_dev), file.st_ino);
  std::ifstream locks("/proc/locks");
  std::string number, type, mode, access, pid, inode, rest;
  while (locks >> number >> type >> mode >> access >> pid >> inode && std::getline(locks, rest)) {
    if (type == "FLOCK" && inode == id) return " (process " + pid + ")";
  }
  return "";
}

// The directory itself is locked, not its marker: so the lock is there before the first marker is.
Result<OpenNvmeDirectory> open_locked(const NvmeDirectory& given) {
  OpenNvmeDirectory directory{.path = given.path, .capacity = given.capacity};
  if (::mkdir(given.path.c_str(), 0700) != 0 && errno != EEXIST) {
    return fail_errno(errno, fmt::format("making the NVMe directory {}", given.path));
  }
  directory.fd = UniqueFd(::open(given.path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat info {};
  if (!directory.fd.valid() || ::fstat(directory.fd.get(), &info) != 0) {
    return fail_errno(errno, fmt::format("opening the NVMe directory {}", given.path));
  }
  if (::flock(directory.fd.get(), LOCK_EX | LOCK_NB) != 0) {
    return fail(Code::kBusy, fmt::format("{} is in use by another daemon{}, or given twice; stop "
                                         "that one or give another directory",
                                         given.path, lock_holder(info)));
  }
  return directory;
}

Result<Candidate> inspect(const NvmeDirectory& given) {
  auto opened = open_locked(given);
  if (!opened) return pass(std::move(opened));
  Candidate candidate{.directory = *std::move(opened)};
  const int fd = candidate.directory.fd.get();
  auto marker = read_nvme_marker(fd, given.path);
  if (!marker && marker.error().code != Code::kNotFound) return pass(std::move(marker));
  if (marker) candidate.marker = *std::move(marker);

  auto names = names_in(fd);
  if (!names) return pass(std::move(names));
  for (const std::string& name : *names) {
    if (ours(name)) continue;
    if (!candidate.marker) {
      return fail(Code::kInvalid,
                  fmt::format("{} is not empty ({}) and no kvfs directory; give an empty one",
                              given.path, name));
    }
    spdlog::warn(
        "{}/{} is not part of the store and is left alone; move it elsewhere, its bytes do "
        "not count against the capacity",
        given.path, name);
  }
  return candidate;
}

// One write and one read, as the tier will do them.
Status probe_direct_io(const OpenNvmeDirectory& directory) {
  const auto refuse = [&](int error, std::string_view what) {
    return fail(
        Code::kUnavailable,
        fmt::format("the file system of {} cannot do O_DIRECT ({}: {}); give a directory on "
                    "ext4, xfs or btrfs",
                    directory.path, what, std::generic_category().message(error)));
  };
  const std::string name(kProbeName);
  UniqueFd fd(::openat(directory.fd.get(), name.c_str(),
                       O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC | O_NOFOLLOW, 0600));
  const int error = errno;
  // Named or not it works the same, and nothing stays behind. A refused O_DIRECT leaves the file,
  // too.
  ::unlinkat(directory.fd.get(), name.c_str(), 0);
  if (!fd.valid()) {
    if (error == EINVAL) return refuse(error, "open");
    return fail_errno(error, fmt::format("creating a file in {}", directory.path));
  }
  const std::unique_ptr<void, decltype(&std::free)> page(
      std::aligned_alloc(kDirectAlignment, kDirectAlignment), &std::free);
  if (page == nullptr) throw std::bad_alloc();
  std::fill_n(static_cast<char*>(page.get()), kDirectAlignment, 'k');
  constexpr auto kWhole = static_cast<ssize_t>(kDirectAlignment);
  errno = EIO;  // for a short one
  if (::pwrite(fd.get(), page.get(), kDirectAlignment, 0) != kWhole) {
    if (errno == ENOSPC) return fail_errno(errno, fmt::format("writing in {}", directory.path));
    return refuse(errno, "write");
  }
  if (::pread(fd.get(), page.get(), kDirectAlignment, 0) != kWhole) return refuse(errno, "read");
  if (::fallocate(fd.get(), 0, 0, 2 * kWhole) != 0 && errno != ENOSPC) {
    return fail(Code::kUnavailable,
                fmt::format("the file system of {} cannot preallocate files; give a directory on "
                            "ext4, xfs or btrfs",
                            directory.path));
  }
  struct statfs kind {};
  if (::fstatfs(fd.get(), &kind) == 0 && kind.f_type == kTmpfsMagic) {
    spdlog::warn(
        "{} is in memory (tmpfs): blocks moved there free none, and do not outlive the machine",
        directory.path);
  }
  return {};
}

// Whether they are all directories of this store, once each.
Status check_markers(const std::vector<Candidate>& candidates, const std::string& store_id) {
  std::vector<const Candidate*> at(candidates.size(), nullptr);
  for (const Candidate& candidate : candidates) {
    if (!candidate.marker) continue;
    const NvmeMarker& marker = *candidate.marker;
    const std::string& path = candidate.directory.path;
    if (marker.store_id != store_id) {
      return fail(Code::kMismatch, fmt::format("{} belongs to store {}, this is store {}; give "
                                               "another directory or empty it",
                                               path, marker.store_id, store_id));
    }
    if (marker.directories != candidates.size()) {
      return fail(
          Code::kMismatch,
          fmt::format("{} is one of {} directories of its store, but {} are given; give all "
                      "of them, or empty them to begin anew",
                      path, marker.directories, candidates.size()));
    }
    if (at[marker.index] != nullptr) {
      return fail(Code::kMismatch, fmt::format("{} and {} are copies of the same directory of the "
                                               "store; empty the one that is not needed",
                                               at[marker.index]->directory.path, path));
    }
    at[marker.index] = &candidate;
  }
  return {};
}

// Gives markers to those without and puts all into the order of the markers. One without beside
// ones that have theirs: an interrupted first use, or a new disk in the place of a lost one. What
// was on that one fails its claims.
Status order_by_marker(std::vector<Candidate>& candidates, const std::string& store_id) {
  std::vector<bool> taken(candidates.size(), false);
  for (const Candidate& candidate : candidates) {
    if (candidate.marker) taken[candidate.marker->index] = true;
  }
  std::vector<Candidate> ordered(candidates.size());
  std::uint32_t next = 0;
  for (Candidate& candidate : candidates) {
    if (!candidate.marker) {
      while (taken[next]) ++next;
      taken[next] = true;
      candidate.marker = NvmeMarker{.store_id = store_id,
                                    .index = next,
                                    .directories = static_cast<std::uint32_t>(candidates.size())};
      auto written = write_nvme_marker(candidate.directory.fd.get(), candidate.directory.path,
                                       *candidate.marker);
      if (!written) return written;
    }
    const std::uint32_t index = candidate.marker->index;
    ordered[index] = std::move(candidate);
  }
  candidates = std::move(ordered);
  return {};
}

Status open_segments(OpenNvmeDirectory& directory) {
  if (::mkdirat(directory.fd.get(), "segments", 0700) != 0 && errno != EEXIST) {
    return fail_errno(errno, fmt::format("making {}/segments", directory.path));
  }
  directory.segments = UniqueFd(
      ::openat(directory.fd.get(), "segments", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (!directory.segments.valid()) {
    return fail_errno(errno, fmt::format("opening {}/segments", directory.path));
  }
  // The name must be there after a crash, or no segment is.
  if (::fsync(directory.fd.get()) != 0) {
    return fail_errno(errno, fmt::format("fsync of {}", directory.path));
  }
  return {};
}

std::uint64_t bytes_of_segments(const OpenNvmeDirectory& directory) {
  std::uint64_t bytes = 0;
  const UniqueFd segments(
      ::openat(directory.fd.get(), "segments", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (!segments.valid()) return 0;
  const auto names = names_in(segments.get());
  if (!names) return 0;
  for (const std::string& name : *names) {
    struct stat info {};
    if (::fstatat(segments.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISREG(info.st_mode)) {
      bytes += static_cast<std::uint64_t>(info.st_blocks) * 512;
    }
  }
  return bytes;
}

// Directories may share a file system; together they must find room there.
Status check_room(const std::vector<Candidate>& candidates) {
  std::map<dev_t, std::uint64_t> wanted;
  for (const auto& [directory, marker] : candidates) {
    struct stat info {};
    struct statvfs room {};
    if (::fstat(directory.fd.get(), &info) != 0 || ::fstatvfs(directory.fd.get(), &room) != 0) {
      return fail_errno(errno, fmt::format("statvfs of {}", directory.path));
    }
    const std::uint64_t there = bytes_of_segments(directory);
    std::uint64_t& want = wanted[info.st_dev];
    want += directory.capacity > there ? directory.capacity - there : 0;
    const std::uint64_t free = std::uint64_t{room.f_bavail} * room.f_frsize;
    if (free < want) {
      return fail(Code::kNoSpace,
                  fmt::format("the file system of {} has {} bytes free, the store's "
                              "capacity needs {} more; lower the capacity",
                              directory.path, free, want));
    }
  }
  return {};
}

Status check_options(const NvmeOptions& options) {
  if (options.directories.empty()) {
    return fail(Code::kInvalid, "no NVMe directory is given");
  }
  for (const NvmeDirectory& directory : options.directories) {
    if (directory.capacity < kDirectAlignment) {
      return fail(Code::kInvalid,
                  fmt::format("NVMe directory {} has a capacity of {} bytes; give more",
                              directory.path, directory.capacity));
    }
  }
  return {};
}

}  // namespace

Result<std::vector<OpenNvmeDirectory>> open_nvme_directories(const NvmeOptions& options) {
  if (auto valid = check_options(options); !valid) return pass(std::move(valid));
  std::vector<Candidate> candidates;
  for (const NvmeDirectory& given : options.directories) {
    auto candidate = inspect(given);
    if (!candidate) return pass(std::move(candidate));
    if (auto direct = probe_direct_io(candidate->directory); !direct)
      return pass(std::move(direct));
    candidates.push_back(*std::move(candidate));
  }
  if (auto agree = check_markers(candidates, options.store_id); !agree) {
    return pass(std::move(agree));
  }
  if (auto room = check_room(candidates); !room) return pass(std::move(room));
  if (auto ordered = order_by_marker(candidates, options.store_id); !ordered) {
    return pass(std::move(ordered));
  }
  for (Candidate& candidate : candidates) {
    if (auto opened = open_segments(candidate.directory); !opened) return pass(std::move(opened));
  }
  std::vector<OpenNvmeDirectory> directories;
  directories.reserve(candidates.size());
  for (Candidate& candidate : candidates) directories.push_back(std::move(candidate.directory));
  return directories;
}

}  // namespace kvfs::tiers
