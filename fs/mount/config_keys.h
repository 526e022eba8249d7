// The table of configuration keys: TOML key, flag, help, and how text becomes the value and back.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "fs/mount/config.h"

namespace kvfs::mount {

enum class KeyType : std::uint8_t { kText, kBool, kInteger, kList };

struct ConfigKey {
  std::string_view name;  // in TOML; the flag is --name with '-' for '_'
  KeyType type;
  std::string_view value;  // what the help calls the value
  std::string_view help;
  // From text, once per element of a list. The error is about the value alone.
  std::function<Status(Config&, const std::string&)> set;
  std::function<std::string(const Config&)> get;  // as TOML
  std::function<void(Config&)> clear = nullptr;   // lists: before the first set() of a source
};

std::span<const ConfigKey> config_keys();
std::string flag_of(const ConfigKey& key);  // "--writeback-backlog"

}  // namespace kvfs::mount
