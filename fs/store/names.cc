#include "fs/store/names.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "lib/format/json_text.h"

namespace kvfs::store {

Status check_name(std::string_view name) {
  constexpr std::size_t kMaxBytes = 255;
  const bool reserved = name == "." || name == ".." || name == kMetaName;
  if (!name.empty() && name.size() <= kMaxBytes && !reserved &&
      name.find('/') == std::string_view::npos && is_printable(name)) {
    return {};
  }
  return fail(Code::kInvalid,
              fmt::format("{} cannot be a name: 1 to {} bytes of UTF-8 without '/' or control "
                          "characters, and not '{}'",
                          json_text(std::string(name.substr(0, kMaxBytes))), kMaxBytes, kMetaName));
}

std::optional<Key> Names::find(std::string_view name) const {
  const auto at = by_name_.find(name);
  if (at == by_name_.end()) return std::nullopt;
  return entries_.at(at->second).key;
}

std::vector<std::string> Names::of(const Key& key) const {
  std::vector<std::string> names;
  const auto [begin, end] = by_key_.equal_range(key);
  for (auto at = begin; at != end; ++at) names.push_back(entries_.at(at->second).name);
  std::ranges::sort(names);
  return names;
}

void Names::list(std::uint64_t cookie, std::size_t max, std::vector<NameEntry>& out) const {
  for (auto at = entries_.upper_bound(cookie); at != entries_.end() && max > 0; ++at, --max) {
    out.push_back({at->second.name, at->second.key, at->first});
  }
}

void Names::set(std::string_view name, const Key& key) {
  erase(name);
  const std::uint64_t number = next_++;
  entries_.emplace(number, Entry{std::string(name), key});
  by_name_.emplace(name, number);
  by_key_.emplace(key, number);
}

bool Names::erase(std::string_view name) {
  const auto at = by_name_.find(name);
  if (at == by_name_.end()) return false;
  const std::uint64_t number = at->second;
  const auto entry = entries_.find(number);
  const auto [begin, end] = by_key_.equal_range(entry->second.key);
  by_key_.erase(std::find_if(begin, end, [&](const auto& pair) { return pair.second == number; }));
  entries_.erase(entry);
  by_name_.erase(at);
  return true;
}

std::string Names::label(const Key& key) const {
  const auto at = labels_.find(key);
  return at == labels_.end() ? std::string() : at->second;
}

void Names::set_label(const Key& key, std::string_view label) {
  if (label.empty()) {
    labels_.erase(key);
  } else {
    labels_.insert_or_assign(key, std::string(label));
  }
}

}  // namespace kvfs::store
