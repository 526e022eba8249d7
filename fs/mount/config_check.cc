// Is a configuration possible, and possible on this machine?
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "fs/mount/config.h"
#include "fs/mount/privilege.h"
#include "fs/size_text.h"
#include "lib/format/json_text.h"

namespace kvfs::mount {
namespace {

constexpr std::uint64_t kHugePage = 2ULL << 20;

template <typename... Args>
Status refuse(fmt::format_string<Args...> format, Args&&... args) {
  return fail(Code::kInvalid, fmt::format(format, std::forward<Args>(args)...));
}

std::string human(std::uint64_t bytes) {
  return fmt::format("{:.1f}GiB", static_cast<double>(bytes) / 0x1p30);
}

Status check_nvme_list(const Config& config) {
  std::set<std::string> seen;
  for (const auto& directory : config.nvme) {
    if (!seen.insert(directory.path).second) {
      return refuse("nvme: {} is given twice: name each directory once", directory.path);
    }
    if (directory.capacity < (64ULL << 20)) {
      return refuse("nvme: {}:{} is too small: give at least 64MiB", directory.path,
                    size_text(directory.capacity));
    }
  }
  return {};
}

// Bytes a previous daemon's segments take there already; they are part of the capacity.
std::uint64_t segment_bytes(const std::string& directory) {
  std::uint64_t bytes = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory + "/segments", error)) {
    struct stat status {};
    if (::stat(entry.path().c_str(), &status) == 0)
      bytes += static_cast<std::uint64_t>(status.st_blocks) * 512;
  }
  return bytes;
}

Status check_nvme_space(const tiers::NvmeDirectory& directory) {
  // The directory need not exist yet; its nearest ancestor says which file system it will be on.
  std::filesystem::path probe = directory.path;
  std::error_code error;  // what may not be looked at is refused where it is made
  while (!std::filesystem::exists(probe, error) && probe.has_relative_path())
    probe = probe.parent_path();
  struct statvfs space {};
  if (::statvfs(probe.c_str(), &space) != 0) {
    return fail(Code::kUnavailable,
                fmt::format("nvme: {} cannot be looked at: create it or name another directory",
                            directory.path));
  }
  const std::uint64_t available =
      std::uint64_t{space.f_bavail} * space.f_frsize + segment_bytes(directory.path);
  if (directory.capacity > available) {
    // Perhaps for the moment: what is mounted there may not be there yet.
    return fail(Code::kNoSpace,
                fmt::format("nvme: {}:{} is more than the {} that are free there: give a smaller "
                            "size or free space",
                            directory.path, size_text(directory.capacity), human(available)));
  }
  return {};
}

std::uint64_t machine_memory() {
  return static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
         static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

// They are shown in TOML, which is UTF-8.
Status check_texts(const Config& config) {
  std::vector<std::pair<std::string_view, std::string_view>> texts{
      {"mountpoint", config.mountpoint},
      {"plain_dir", config.plain_dir},
      {"state_dir", config.state_dir},
      {"run_dir", config.run_dir},
      {"log_file", config.log_file}};
  for (const auto& directory : config.nvme) texts.emplace_back("nvme", directory.path);
  for (const auto& [key, text] : texts) {
    if (!is_utf8(text)) return refuse("{}: it is not UTF-8: use another directory", key);
  }
  return {};
}

}  // namespace

Status check_config(const Config& config) {
  if (Status readable = check_texts(config); !readable) return readable;
  if (config.mountpoint.empty())
    return refuse("mountpoint: missing: name the directory to mount on");
  if (config.gpu != 0 && config.gpu < kHugePage)
    return refuse("gpu: {} is too small: give at least 2MiB", size_text(config.gpu));
  if (config.dram == 0)
    return refuse("dram: missing: give the DRAM tier a size, as in --dram 8GiB");
  if (config.dram < 4 * kHugePage)
    return refuse("dram: {} is too small: give at least 8MiB", size_text(config.dram));
  if (config.slab % kHugePage != 0)
    return refuse("slab: {} is not a multiple of 2MiB", size_text(config.slab));
  if (config.slab > config.dram) {
    return refuse("slab: {} is more than dram ({}): make it smaller", size_text(config.slab),
                  size_text(config.dram));
  }
  if (config.writeback_backlog > config.dram) {
    return refuse("writeback_backlog: {} is more than dram ({}): make it smaller",
                  size_text(config.writeback_backlog), size_text(config.dram));
  }
  if (config.max_read < 4096 || config.max_read > (16ULL << 20) || config.max_read % 4096 != 0) {
    return refuse("max_read: {} is not a multiple of 4KiB from 4KiB to 16MiB",
                  size_text(config.max_read));
  }
  if (config.readahead > (1ULL << 30))
    return refuse("readahead: {} is over 1GiB", size_text(config.readahead));
  if (!config.plain_dir.empty() && config.nvme.empty() && config.plain_quota == 0)
    return refuse("plain_quota: missing: give plain_dir a size, as in --plain-quota 100GiB");
  if ((config.plain_dir + "/").starts_with(config.mountpoint + "/"))
    return refuse("plain_dir: {} is on the mount itself: name a directory elsewhere",
                  config.plain_dir);
  if (config.plain_quota != 0 && config.plain_quota < (1ULL << 20))
    return refuse("plain_quota: {} is too small: give at least 1MiB",
                  size_text(config.plain_quota));
  return check_nvme_list(config);
}

Status check_machine(const Config& config) {
  if (const std::uint64_t memory = machine_memory(); config.dram > memory) {
    return refuse("dram: {} is more than this machine's {} of memory: give less",
                  size_text(config.dram), human(memory));
  }
  for (const auto& directory : config.nvme) {
    if (auto status = check_nvme_space(directory); !status) return status;
  }
  if (config.passthrough == Passthrough::kOn && !may_pass_through()) {
    return refuse("passthrough: on needs CAP_SYS_ADMIN: run as root, or use auto");
  }
  std::error_code error;
  if (!std::filesystem::is_directory(config.mountpoint, error) &&
      error != std::errc::not_connected) {
    return refuse("mountpoint: {} is not a directory: create it first", config.mountpoint);
  }
  return {};
}

}  // namespace kvfs::mount
