// Names: the symlinks of a namespace and the labels of its prefixes.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "fs/store/store.h"

namespace kvfs::store {

// A name outlives the blocks it points at, as a symlink does; a label goes with its block.
//
// Threads: its namespace's mutex guards every call.
// Owns:    names and labels; the journal has their copies.
// Blocks:  never.
// Errors:  none; check_name() has said what is wrong with a name.
class Names {
 public:
  static constexpr std::size_t kMaxLabelBytes = 4096;

  [[nodiscard]] std::optional<Key> find(std::string_view name) const;
  [[nodiscard]] std::vector<std::string> of(const Key& key) const;
  [[nodiscard]] bool empty() const { return entries_.empty(); }
  [[nodiscard]] bool any_of(const Key& key) const { return by_key_.contains(key); }
  // In the order in which they came; a cookie is an entry's number, which stays.
  void list(std::uint64_t cookie, std::size_t max, std::vector<NameEntry>& out) const;
  void set(std::string_view name, const Key& key);
  bool erase(std::string_view name);

  [[nodiscard]] std::string label(const Key& key) const;
  void set_label(const Key& key, std::string_view label);  // empty: none
  bool erase_label(const Key& key) { return labels_.erase(key) != 0; }

 private:
  struct Entry {
    std::string name;
    Key key;
  };
  std::map<std::uint64_t, Entry> entries_;
  std::map<std::string, std::uint64_t, std::less<>> by_name_;
  std::unordered_multimap<Key, std::uint64_t, KeyHash> by_key_;
  std::unordered_map<Key, std::string, KeyHash> labels_;
  std::uint64_t next_ = 1;
};

}  // namespace kvfs::store
