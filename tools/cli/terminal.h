// What standard output is: its width, whether it takes colours.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace kvfs::cli {

enum class Tint { kNone, kBold, kDim, kGood, kWarn, kBad };

// Threads: none of its own. Owns: nothing. Blocks: never. Errors: none.
class Terminal {
 public:
  // Colours only on a terminal, and not where NO_COLOR is set or TERM is "dumb".
  static Terminal of_stdout();
  static Terminal plain(std::size_t columns) { return {false, false, columns}; }

  [[nodiscard]] bool is_tty() const { return tty_; }
  // Columns of the terminal; SIZE_MAX where output goes to a file or pipe, so that nothing is cut.
  [[nodiscard]] std::size_t columns() const { return columns_; }
  [[nodiscard]] std::string tint(Tint tint, std::string_view text) const;

 private:
  Terminal(bool tty, bool colours, std::size_t columns)
      : tty_(tty), colours_(colours), columns_(columns) {}
  bool tty_;
  bool colours_;
  std::size_t columns_;
};

// Columns that UTF-8 text takes on a terminal (no escapes; wide characters count one).
std::size_t text_width(std::string_view text);
// At most `width` columns, with an ellipsis where it was cut.
std::string cut_text(std::string_view text, std::size_t width);

}  // namespace kvfs::cli
