#include "tools/cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

namespace kvfs::cli {
namespace {

std::string_view escape_of(Tint tint) {
  switch (tint) {
    case Tint::kNone:
      return "";
    case Tint::kBold:
      return "\x1b[1m";
    case Tint::kDim:
      return "\x1b[2m";
    case Tint::kGood:
      return "\x1b[32m";
    case Tint::kWarn:
      return "\x1b[33m";
    case Tint::kBad:
      return "\x1b[31m";
  }
  return "";
}

bool starts_character(char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U; }

}  // namespace

Terminal Terminal::of_stdout() {
  if (::isatty(STDOUT_FILENO) == 0) return {false, false, SIZE_MAX};
  const char* term = std::getenv("TERM");
  const bool colours =
      std::getenv("NO_COLOR") == nullptr && term != nullptr && std::string_view(term) != "dumb";
  winsize size{};
  const bool known = ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return {true, colours, known ? size.ws_col : 80U};
}

std::string Terminal::tint(Tint tint, std::string_view text) const {
  if (!colours_ || tint == Tint::kNone) return std::string(text);
  return std::string(escape_of(tint)) + std::string(text) + "\x1b[0m";
}

std::size_t text_width(std::string_view text) {
  std::size_t width = 0;
  for (const char c : text) width += starts_character(c) ? 1 : 0;
  return width;
}

std::string cut_text(std::string_view text, std::size_t width) {
  if (text_width(text) <= width) return std::string(text);
  if (width == 0) return "";
  std::size_t end = 0;
  std::size_t seen = 0;
  while (end < text.size() && (seen < width - 1 || !starts_character(text[end]))) {
    if (starts_character(text[end])) ++seen;
    ++end;
  }
  return std::string(text.substr(0, end)) + "…";
}

}  // namespace kvfs::cli
