#include "lib/format/json_text.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace kvfs {

using nlohmann::json;

bool is_utf8(std::string_view text) {
  const std::string kept = json(text).dump(-1, ' ', false, json::error_handler_t::ignore);
  return kept == json_text(json(text));  // equal when nothing had to be dropped or replaced
}

bool is_printable(std::string_view text) {
  const bool control = std::ranges::any_of(text, [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7f;
  });
  return !control && is_utf8(text);
}

std::string json_text(const json& value, int indent) {
  return value.dump(indent, ' ', false, json::error_handler_t::replace);
}

}  // namespace kvfs
