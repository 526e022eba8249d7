#include "fs/mount/config_keys.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <nlohmann/json.hpp>

#include "fs/size_text.h"

namespace kvfs::mount {
namespace {

// A basic string of TOML is escaped as one of JSON.
std::string quoted(const std::string& text) { return nlohmann::json(text).dump(); }

ConfigKey text(std::string_view name, std::string_view value, std::string_view help,
               std::string Config::*field) {
  return {name,
          KeyType::kText,
          value,
          help,
          [field](Config& config, const std::string& given) -> Status {
            config.*field = given;
            return {};
          },
          [field](const Config& config) { return quoted(config.*field); }};
}

ConfigKey size(std::string_view name, std::string_view help, std::uint64_t Config::*field) {
  return {name,
          KeyType::kText,
          "SIZE",
          help,
          [field](Config& config, const std::string& given) -> Status {
            auto bytes = parse_size(given);
            if (!bytes) return pass(std::move(bytes));
            config.*field = *bytes;
            return {};
          },
          [field](const Config& config) { return quoted(size_text(config.*field)); }};
}

ConfigKey duration(std::string_view name, std::string_view help,
                   std::chrono::milliseconds Config::*field) {
  return {name,
          KeyType::kText,
          "TIME",
          help,
          [field](Config& config, const std::string& given) -> Status {
            auto parsed = parse_duration(given);
            if (!parsed) return pass(std::move(parsed));
            config.*field = *parsed;
            return {};
          },
          [field](const Config& config) { return quoted(duration_text(config.*field)); }};
}

ConfigKey integer(std::string_view name, std::uint32_t low, std::uint32_t high,
                  std::string_view help, std::uint32_t Config::*field) {
  return {name,
          KeyType::kInteger,
          "N",
          help,
          [=](Config& config, const std::string& given) -> Status {
            std::uint32_t number = 0;
            const auto [end, error] =
                std::from_chars(given.data(), given.data() + given.size(), number);
            if (error != std::errc() || end != given.data() + given.size() || number < low ||
                number > high) {
              return fail(Code::kInvalid, fmt::format("'{}' is not a whole number from {} to {}",
                                                      given, low, high));
            }
            config.*field = number;
            return {};
          },
          [field](const Config& config) { return std::to_string(config.*field); }};
}

ConfigKey boolean(std::string_view name, std::string_view help, bool Config::*field) {
  return {name,
          KeyType::kBool,
          "BOOL",
          help,
          [field](Config& config, const std::string& given) -> Status {
            if (given != "true" && given != "false") {
              return fail(Code::kInvalid, fmt::format("'{}' is neither true nor false", given));
            }
            config.*field = given == "true";
            return {};
          },
          [field](const Config& config) { return config.*field ? "true" : "false"; }};
}

ConfigKey nvme() {
  return {"nvme",
          KeyType::kList,
          "DIR:SIZE",
          "a directory of the NVMe tier and how much of it to use; several are striped",
          [](Config& config, const std::string& given) -> Status {
            const std::size_t colon = given.rfind(':');
            if (colon == std::string::npos || colon == 0) {
              return fail(Code::kInvalid,
                          fmt::format("'{}' is not DIR:SIZE, as in /data/kvfs:100GiB", given));
            }
            auto bytes = parse_size(std::string_view(given).substr(colon + 1));
            if (!bytes) return pass(std::move(bytes));
            config.nvme.push_back({given.substr(0, colon), *bytes});
            return {};
          },
          [](const Config& config) {
            std::string list;
            for (const auto& directory : config.nvme) {
              list += (list.empty() ? "" : ", ") +
                      quoted(directory.path + ":" + size_text(directory.capacity));
            }
            return "[" + list + "]";
          },
          [](Config& config) { config.nvme.clear(); }};
}

ConfigKey gpu() {
  return {"gpu",
          KeyType::kText,
          "N:SIZE",
          "memory of GPU N for copies of hot blocks (hard limit); 'cpu' for N: host memory in its "
          "part",
          [](Config& config, const std::string& given) -> Status {
            const std::size_t colon = given.find(':');
            const std::string device = given.substr(0, colon);
            int ordinal = -1;
            const auto [end, error] =
                std::from_chars(device.data(), device.data() + device.size(), ordinal);
            const bool number = error == std::errc() && end == device.data() + device.size();
            if (colon == std::string::npos || (device != "cpu" && (!number || ordinal < 0))) {
              return fail(Code::kInvalid, fmt::format("'{}' is not N:SIZE, as in 0:8GiB", given));
            }
            auto bytes = parse_size(std::string_view(given).substr(colon + 1));
            if (!bytes) return pass(std::move(bytes));
            config.gpu = *bytes;
            config.gpu_ordinal = device == "cpu" ? -1 : ordinal;
            return {};
          },
          [](const Config& config) {
            if (config.gpu == 0) return quoted("0:0");
            return quoted((config.gpu_ordinal < 0 ? "cpu" : std::to_string(config.gpu_ordinal)) +
                          ":" + size_text(config.gpu));
          }};
}

ConfigKey passthrough() {
  return {"passthrough",
          KeyType::kText,
          "auto|on|off",
          "let clients map slabs and index: auto where the kernel (>= 6.9) and privilege allow it",
          [](Config& config, const std::string& given) -> Status {
            if (given == "auto") {
              config.passthrough = Passthrough::kAuto;
            } else if (given == "on") {
              config.passthrough = Passthrough::kOn;
            } else if (given == "off") {
              config.passthrough = Passthrough::kOff;
            } else {
              return fail(Code::kInvalid, fmt::format("'{}' is none of auto, on, off", given));
            }
            return {};
          },
          [](const Config& config) {
            switch (config.passthrough) {
              case Passthrough::kOn:
                return quoted("on");
              case Passthrough::kOff:
                return quoted("off");
              case Passthrough::kAuto:
                break;
            }
            return quoted("auto");
          }};
}

ConfigKey log_level() {
  return {
      "log_level",
      KeyType::kText,
      "LEVEL",
      "trace, debug, info, warning, error or off",
      [](Config& config, const std::string& given) -> Status {
        for (const std::string_view level : {"trace", "debug", "info", "warning", "error", "off"}) {
          if (given != level) continue;
          config.log_level = given;
          return {};
        }
        return fail(Code::kInvalid,
                    fmt::format("'{}' is none of trace, debug, info, warning, error, off", given));
      },
      [](const Config& config) { return quoted(config.log_level); }};
}

}  // namespace

std::span<const ConfigKey> config_keys() {
  static const std::array keys{
      text("mountpoint", "DIR", "where the file system appears", &Config::mountpoint),
      gpu(),
      size("gpu_reserve", "memory of that GPU that stays free for others", &Config::gpu_reserve),
      size("dram", "memory for the DRAM tier (hard limit)", &Config::dram),
      size("slab", "bytes of one slab, a multiple of 2MiB; 0: chosen from dram", &Config::slab),
      nvme(),
      size("segment", "bytes of one segment file of the NVMe tier; 0: chosen from the directories",
           &Config::segment),
      integer("nvme_queue_depth", 1, 1024, "requests at one NVMe directory at once",
              &Config::nvme_queue_depth),
      duration("nvme_timeout", "a request to the disk that takes longer has failed",
               &Config::nvme_timeout),
      integer("promote_depth", 1, 4096, "blocks read from NVMe at once", &Config::promote_depth),
      size("writeback_backlog", "bytes that may wait for NVMe; 0: half of dram",
           &Config::writeback_backlog),
      duration("quarantine", "how long a dead writer's memory rests before it is used again",
               &Config::quarantine),
      boolean("keep_dram", "leave the DRAM tier for the next daemon at the end",
              &Config::keep_dram),
      boolean("pretouch", "fault the DRAM tier in at start", &Config::pretouch),
      text("plain_dir", "DIR",
           "where files of plain directories lie; default: beside the first NVMe directory "
           "(DIR.plain)",
           &Config::plain_dir),
      size("plain_quota",
           "bytes that plain directories may take together; 0: a tenth of the NVMe tier",
           &Config::plain_quota),
      text("state_dir", "DIR",
           "journal and spool; default: beside the first NVMe directory (DIR.state), else in "
           "run_dir",
           &Config::state_dir),
      text("run_dir", "DIR",
           "the DRAM tier's tmpfs; default: /run/kvfs/<id>, without root /dev/shm/kvfs-<uid>-<id>",
           &Config::run_dir),
      boolean("allow_other", "other users may use the mount; default: true as root",
              &Config::allow_other),
      passthrough(),
      integer("threads", 1, 1024, "threads that serve requests", &Config::threads),
      boolean("uring", "FUSE over io_uring where the kernel has it", &Config::uring),
      size("max_read", "largest read or write request", &Config::max_read),
      size("readahead", "read ahead of prefix files (set by root)", &Config::readahead),
      boolean("raise_max_pages",
              "raise the system's fs.fuse.max_pages_limit to what max_read needs",
              &Config::raise_max_pages),
      duration("entry_timeout", "how long the kernel may remember names of prefixes",
               &Config::entry_timeout),
      duration("attr_timeout", "how long the kernel may remember attributes",
               &Config::attr_timeout),
      duration("read_timeout", "deadline of read(2) of what is not in memory",
               &Config::read_timeout),
      duration(
          "store_timeout",
          "how long a store waits for write-back where DRAM is full of what is not on NVMe yet",
          &Config::store_timeout),
      duration("flush_timeout", "deadline of fsync(2)", &Config::flush_timeout),
      duration("shutdown_timeout", "deadline of the write-back at the end",
               &Config::shutdown_timeout),
      boolean("background", "return once mounted and serve from the background",
              &Config::background),
      log_level(),
      text("log_file", "FILE",
           "where to log; default: standard error, in the background RUN_DIR.log",
           &Config::log_file),
  };
  return keys;
}

std::string flag_of(const ConfigKey& key) {
  std::string flag = "--";
  for (const char c : key.name) flag += c == '_' ? '-' : c;
  return flag;
}

}  // namespace kvfs::mount
