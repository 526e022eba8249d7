// Geometry as JSON: geometry.json of a namespace, a prefix file's metadata, the control files.
#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "lib/format/geometry.h"
#include "lib/format/json_text.h"

namespace kvfs {
namespace {

using nlohmann::json;

constexpr std::array<std::string_view, 7> kTopKeys{"model",  "dtype",    "block_tokens", "salt",
                                                   "layout", "encoding", "groups"};
constexpr std::array<std::string_view, 5> kGroupKeys{"layers", "kv_heads", "head_dim", "kv_factor",
                                                     "window"};

template <std::size_t N>
bool contains(const std::array<std::string_view, N>& keys, std::string_view key) {
  return std::ranges::find(keys, key) != keys.end();
}

// For an error. Not what is nested: printing that recurses as deep as whoever wrote it went.
std::string shown(const json& value) {
  return value.is_primitive() ? json_text(value) : std::string("a list or an object");
}

// Reads members of one JSON object and keeps the first error.
class Reader {
 public:
  Reader(const json& object, std::string where) : object_(object), where_(std::move(where)) {}

  void number(const char* name, std::uint32_t& value, bool required) {
    const json* member = find(name, required);
    if (member == nullptr) return;
    if (!member->is_number_unsigned() ||
        member->get<std::uint64_t>() > std::numeric_limits<std::uint32_t>::max()) {
      return set_error(where_ + name + " is " + shown(*member) +
                       ": give a whole number from 0 to 4294967295");
    }
    value = member->get<std::uint32_t>();
  }

  void text(const char* name, std::string& value, bool required) {
    const json* member = find(name, required);
    if (member == nullptr) return;
    if (!member->is_string()) {
      return set_error(where_ + name + " is " + shown(*member) + ": give a string");
    }
    value = member->get<std::string>();
  }

  template <std::size_t N>
  void refuse_others(const std::array<std::string_view, N>& known) {
    for (const auto& [name, value] : object_.items()) {
      if (!contains(known, name))
        set_error(where_ + name + " is not a key of a geometry: remove it");
    }
  }

  void set_error(std::string message) {
    if (!error_) error_ = Error{Code::kInvalid, std::move(message)};
  }
  template <typename T>
  void take_error(const Result<T>& result) {
    if (!result) set_error(result.error().message);
  }
  [[nodiscard]] const std::optional<Error>& error() const { return error_; }

 private:
  const json* find(const char* name, bool required) {
    const auto found = object_.find(name);
    if (found != object_.end()) return &*found;
    if (required) set_error(where_ + name + " is missing: a geometry must have it");
    return nullptr;
  }

  const json& object_;
  std::string where_;
  std::optional<Error> error_;
};

Result<Group> group_from_json(const json& object, const std::string& where, bool flat) {
  if (!object.is_object())
    return fail(Code::kInvalid, where + " is not an object: give {layers, kv_heads, head_dim}");
  Reader reader(object, where.empty() ? where : where + ".");
  Group group;
  reader.number("layers", group.layers, true);
  reader.number("kv_heads", group.kv_heads, true);
  reader.number("head_dim", group.head_dim, true);
  reader.number("kv_factor", group.kv_factor, false);
  reader.number("window", group.window, false);
  if (!flat) reader.refuse_others(kGroupKeys);
  if (reader.error()) return tl::unexpected(*reader.error());
  return group;
}

Result<std::vector<Group>> groups_from_json(const json& object) {
  std::vector<Group> groups;
  const auto listed = object.find("groups");
  if (listed == object.end()) {
    Result<Group> group = group_from_json(object, "", true);
    if (!group) return pass(std::move(group));
    groups.push_back(*group);
    return groups;
  }
  for (const std::string_view name : kGroupKeys) {
    if (object.contains(name)) {
      return fail(Code::kInvalid, std::string(name) +
                                      " stands beside groups: put it into the groups, or leave "
                                      "groups out");
    }
  }
  if (!listed->is_array())
    return fail(Code::kInvalid, "groups is not a list: give [{layers, ...}]");
  for (std::size_t g = 0; g < listed->size(); ++g) {
    Result<Group> group = group_from_json((*listed)[g], "groups[" + std::to_string(g) + "]", false);
    if (!group) return pass(std::move(group));
    groups.push_back(*group);
  }
  return groups;
}

}  // namespace

json to_json(const Geometry& geometry) {
  json groups = json::array();
  for (const Group& group : geometry.groups) {
    groups.push_back({{"layers", group.layers},
                      {"kv_heads", group.kv_heads},
                      {"head_dim", group.head_dim},
                      {"kv_factor", group.kv_factor},
                      {"window", group.window}});
  }
  return {{"model", geometry.model},
          {"dtype", dtype_name(geometry.dtype)},
          {"block_tokens", geometry.block_tokens},
          {"salt", geometry.salt},
          {"layout", geometry.layout},
          {"encoding", encoding_name(geometry.encoding)},
          {"groups", std::move(groups)}};
}

Result<Geometry> geometry_from_json(const json& object) {
  if (!object.is_object()) {
    return fail(Code::kInvalid, "the geometry is not a JSON object: give {\"model\": ..., ...}");
  }
  Reader reader(object, "");
  Geometry geometry;
  std::string dtype;
  std::string encoding(encoding_name(geometry.encoding));
  reader.text("model", geometry.model, true);
  reader.text("dtype", dtype, true);
  reader.number("block_tokens", geometry.block_tokens, false);
  reader.text("salt", geometry.salt, false);
  reader.text("layout", geometry.layout, false);
  reader.text("encoding", encoding, false);
  for (const auto& [name, value] : object.items()) {
    if (!contains(kTopKeys, name) && !contains(kGroupKeys, name)) {
      reader.set_error(name + " is not a key of a geometry: remove it");
    }
  }
  if (reader.error()) return tl::unexpected(*reader.error());

  const Result<DType> known_dtype = dtype_from_name(dtype);
  const Result<Encoding> known_encoding = encoding_from_name(encoding);
  Result<std::vector<Group>> groups = groups_from_json(object);
  reader.take_error(known_dtype);
  reader.take_error(known_encoding);
  reader.take_error(groups);
  if (reader.error()) return tl::unexpected(*reader.error());
  geometry.dtype = *known_dtype;
  geometry.encoding = *known_encoding;
  geometry.groups = std::move(*groups);
  if (Status status = validate(geometry); !status) return pass(std::move(status));
  return geometry;
}

}  // namespace kvfs
