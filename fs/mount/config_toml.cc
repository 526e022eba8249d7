// The TOML side of the configuration.
#include <fmt/format.h>

#include <toml++/toml.h>
#include <fstream>
#include <sstream>

#include "fs/mount/config_keys.h"

namespace kvfs::mount {
namespace {

const ConfigKey* find_key(std::string_view name) {
  for (const ConfigKey& key : config_keys()) {
    if (key.name == name) return &key;
  }
  return nullptr;
}

std::string known_keys() {
  std::string names;
  for (const ConfigKey& key : config_keys())
    names += fmt::format("{}{}", names.empty() ? "" : ", ", key.name);
  return names;
}

// The value as a flag would give it; nothing for a type that no key has.
std::optional<std::string> as_text(const toml::node& node) {
  if (const auto* value = node.as_string()) return value->get();
  if (const auto* value = node.as_integer()) return std::to_string(value->get());
  if (const auto* value = node.as_boolean()) return value->get() ? "true" : "false";
  return std::nullopt;
}

Status apply(const ConfigKey& key, const toml::node& node, Config& config,
             const std::string& where) {
  const auto refuse = [&](const std::string& why) {
    return fail(Code::kInvalid, fmt::format("{}: {}: {}", where, key.name, why));
  };
  const auto set = [&](const toml::node& value) -> Status {
    const auto text = as_text(value);
    if (!text) return refuse(fmt::format("the value must be {}", key.value));
    if (auto status = key.set(config, *text); !status) return refuse(status.error().message);
    return {};
  };
  const toml::array* list = node.as_array();
  if (key.type != KeyType::kList)
    return list == nullptr ? set(node) : refuse("one value, not a list");
  key.clear(config);
  if (list == nullptr) return set(node);
  for (const toml::node& element : *list) {
    if (auto status = set(element); !status) return status;
  }
  return {};
}

}  // namespace

Status load_toml(const std::string& path, Config& config) {
  std::ifstream file(path);
  std::stringstream content;
  if (!file || !(content << file.rdbuf())) {
    return fail(Code::kNotFound, fmt::format("--config: {} cannot be read", path));
  }
  toml::table table;
  try {
    table = toml::parse(content.str(), path);
  } catch (const toml::parse_error& error) {
    return fail(Code::kInvalid, fmt::format("{}: line {}: {}", path, error.source().begin.line,
                                            error.description()));
  }
  for (const auto& [name, node] : table) {
    const std::string where = fmt::format("{}: line {}", path, node.source().begin.line);
    const ConfigKey* key = find_key(name.str());
    if (key == nullptr) {
      return fail(Code::kInvalid, fmt::format("{}: unknown key '{}'; known are {}", where,
                                              name.str(), known_keys()));
    }
    if (auto status = apply(*key, node, config, where); !status) return status;
  }
  return {};
}

std::string config_toml(const Config& config) {
  std::string text;
  for (const ConfigKey& key : config_keys())
    text += fmt::format("{} = {}\n", key.name, key.get(config));
  return text;
}

}  // namespace kvfs::mount
