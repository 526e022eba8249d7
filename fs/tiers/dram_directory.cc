#include "fs/tiers/dram_directory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <utility>

#include "fs/tiers/directory_names.h"

namespace kvfs::tiers {
namespace {

// Bytes the machine can give without swapping; 0 where that is not known.
std::uint64_t available_memory() {
  std::ifstream meminfo("/proc/meminfo");
  std::string name;
  std::uint64_t kibibytes = 0;
  std::string unit;
  while (meminfo >> name >> kibibytes) {
    if (name == "MemAvailable:") return kibibytes * 1024;
    std::getline(meminfo, unit);
  }
  return 0;
}

std::optional<SlabId> id_in(std::string_view name, std::string_view suffix) {
  if (!name.ends_with(suffix)) return std::nullopt;
  return number_of(name.substr(0, name.size() - suffix.size()));
}

}  // namespace

Result<DramDirectory> DramDirectory::open(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return fail_errno(errno, fmt::format("making the DRAM directory {}", path));
  }
  DramDirectory directory;
  directory.path_ = path;
  directory.fd_ = UniqueFd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (!directory.fd_.valid()) {
    return fail_errno(errno, fmt::format("opening the DRAM directory {}", path));
  }
  if (::flock(directory.fd(), LOCK_EX | LOCK_NB) != 0) {
    return fail(
        Code::kBusy,
        fmt::format("{} is in use by another daemon; stop that one or give another directory",
                    path));
  }
  return directory;
}

Result<std::vector<FoundSlab>> DramDirectory::scan() const {
  auto names = names_in(fd());
  if (!names) return pass(std::move(names));
  std::vector<FoundSlab> found;
  for (const std::string& name : *names) {
    if (id_in(name, ".owner.tmp")) ::unlinkat(fd(), name.c_str(), 0);
    if (const auto id = id_in(name, ".owner");
        id && std::ranges::find(*names, slab_file_name(*id)) == names->end()) {
      ::unlinkat(fd(), name.c_str(), 0);
    }
    const auto id = id_in(name, ".slab");
    if (!id) continue;
    auto record = read_slab_record(fd(), *id);
    auto file = SlabFile::open(fd(), name, record ? record->slab_bytes : UINT64_MAX);
    if (!file) {
      // A daemon killed between creating and sizing it leaves an empty file.
      spdlog::info("{}/{} is removed: {}", path_, name, file.error().message);
      ::unlinkat(fd(), name.c_str(), 0);
      remove_slab_record(fd(), *id);
      continue;
    }
    if (!record && record.error().code != Code::kNotFound) {
      // It may hold some namespace's bytes, so it cannot be pooled either.
      spdlog::warn("{}/{} is removed: {}", path_, name, record.error().message);
      ignore_error((*file)->discard(), "it is tried again at the next start");
      remove_slab_record(fd(), *id);
      continue;
    }
    found.push_back(
        {*id, *std::move(file), record ? std::optional(*record) : std::optional<SlabRecord>()});
  }
  std::ranges::sort(found, {}, &FoundSlab::id);
  return found;
}

Status DramDirectory::check_room(std::uint64_t bytes, bool touched) const {
  struct statvfs room {};
  if (::fstatvfs(fd(), &room) != 0) return fail_errno(errno, fmt::format("statvfs of {}", path_));
  const std::uint64_t free = std::uint64_t{room.f_bavail} * room.f_frsize;
  // A tmpfs mounted with size=0 has no limit of its own and says that it has no blocks.
  if (room.f_blocks != 0 && free < bytes) {
    return fail(Code::kNoSpace,
                fmt::format("the file system of {} has {} bytes free, the DRAM tier needs {} more; "
                            "lower the DRAM capacity or enlarge it",
                            path_, free, bytes));
  }
  const std::uint64_t memory = available_memory();
  if (touched && memory != 0 && memory < bytes) {
    return fail(Code::kNoSpace,
                fmt::format("the machine has {} bytes of memory available, the DRAM "
                            "tier needs {} more; lower the DRAM capacity",
                            memory, bytes));
  }
  return {};
}

}  // namespace kvfs::tiers
