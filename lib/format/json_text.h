// Text of others in JSON: names and labels may be any bytes, JSON is UTF-8.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace kvfs {

bool is_utf8(std::string_view text);
// What JSON can carry and a line of a terminal can show: UTF-8 without control characters.
bool is_printable(std::string_view text);

// json::dump(), which throws at a string that is not UTF-8; here what is wrong of it becomes
// U+FFFD.
std::string json_text(const nlohmann::json& value, int indent = -1);

}  // namespace kvfs
