#include "lib/format/json_text.h"

#include <nlohmann/json.hpp>

namespace kvfs {

using nlohmann::json;

bool is_utf8(std::string_view text) {
  const std::string kept = json(text).dump(-1, ' ', false, json::error_handler_t::ignore);
  return kept == json_text(json(text));  // equal when nothing had to be dropped or replaced
}

std::string json_text(const json& value, int indent) {
  return value.dump(indent, ' ', false, json::error_handler_t::replace);
}

}  // namespace kvfs
