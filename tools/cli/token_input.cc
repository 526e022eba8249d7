#include "tools/cli/token_input.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>

namespace kvfs::cli {
namespace {

using nlohmann::json;

tl::unexpected<Error> bad_token(std::size_t at, std::string_view text) {
  return fail(
      Code::kInvalid,
      fmt::format("token {} is {}: tokens are whole numbers from 0 to 2147483647", at, text));
}

Result<std::vector<Token>> from_list(const json& list) {
  if (list.size() == 1 && list.front().is_array())
    return from_list(list.front());  // a batch of one
  std::vector<Token> tokens;
  tokens.reserve(list.size());
  for (const json& item : list) {
    const bool fits =
        item.is_number_unsigned() && item.get<std::uint64_t>() <= std::numeric_limits<Token>::max();
    if (!fits)
      return bad_token(tokens.size(), item.dump(-1, ' ', false, json::error_handler_t::replace));
    tokens.push_back(item.get<Token>());
  }
  return tokens;
}

Result<std::vector<Token>> from_json(const json& value) {
  if (value.is_array()) return from_list(value);
  for (const char* name : {"tokens", "input_ids", "prompt_token_ids"}) {
    const auto found = value.find(name);
    if (found != value.end() && found->is_array()) return from_list(*found);
  }
  return fail(Code::kInvalid,
              "the JSON has no list of tokens: give [1, 2, ...] or {\"tokens\": [1, 2, ...]}");
}

Result<std::vector<Token>> from_words(std::string_view text) {
  constexpr std::string_view kSeparators = " \t\r\n,;";
  std::vector<Token> tokens;
  std::size_t at = text.find_first_not_of(kSeparators);
  while (at != std::string_view::npos) {
    const std::size_t end = std::min(text.find_first_of(kSeparators, at), text.size());
    const std::string_view word = text.substr(at, end - at);
    Token token = 0;
    const auto [stop, error] = std::from_chars(word.data(), word.data() + word.size(), token);
    if (error != std::errc() || stop != word.data() + word.size() || token < 0) {
      return bad_token(tokens.size(), fmt::format("'{}'", word.substr(0, 40)));
    }
    tokens.push_back(token);
    at = text.find_first_not_of(kSeparators, end);
  }
  return tokens;
}

}  // namespace

Result<std::vector<Token>> parse_tokens(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first != std::string_view::npos && (text[first] == '[' || text[first] == '{')) {
    const json value = json::parse(text, nullptr, false);
    if (value.is_discarded())
      return fail(Code::kInvalid, "the tokens begin like JSON, but are not JSON");
    return from_json(value);
  }
  return from_words(text);
}

}  // namespace kvfs::cli
