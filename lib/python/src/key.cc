#include "key.h"

#include <charconv>
#include <cinttypes>
#include <cstdio>

#include <nanobind/nanobind.h>

namespace kvfs::python {

std::string key_text(const kvfs_key& key) {
  char text[33];
  std::snprintf(text, sizeof(text), "%016" PRIx64 "%016" PRIx64, key.hi, key.lo);
  return text;
}

kvfs_key key_from_text(std::string text) {
  constexpr std::string_view suffix = ".safetensors";
  if (text.size() == 32 + suffix.size() && text.ends_with(suffix)) {
    text.resize(32);
  }
  kvfs_key key{};
  const char* begin = text.data();
  const bool good = text.size() == 32 &&
                    std::from_chars(begin, begin + 16, key.hi, 16).ptr == begin + 16 &&
                    std::from_chars(begin + 16, begin + 32, key.lo, 16).ptr == begin + 32;
  if (!good) {
    throw nanobind::value_error(("'" + text + "' is not a key: a key has 32 hex digits").c_str());
  }
  return key;
}

}  // namespace kvfs::python
