// Tables of text: columns as wide as they need, one of them cut where the terminal is too narrow.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "tools/cli/terminal.h"

namespace kvfs::cli {

enum class Align { kLeft, kRight };

// Rows are written as lists of texts: NOLINTBEGIN(google-explicit-constructor)
struct Cell {
  Cell(std::string text_, Tint tint_ = Tint::kNone) : text(std::move(text_)), tint(tint_) {}
  Cell(const char* text_) : text(text_) {}
  // NOLINTEND(google-explicit-constructor)
  std::string text;
  Tint tint = Tint::kNone;
};

struct Column {
  std::string title;
  Align align = Align::kLeft;
  bool may_be_cut = false;  // gives way first when the row is wider than the terminal
};

// Threads: one. Owns: its rows. Blocks: never. Errors: none; missing cells are empty.
class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void add(std::vector<Cell> row) { rows_.push_back(std::move(row)); }
  [[nodiscard]] bool empty() const { return rows_.empty(); }
  // Lines with their newlines, titles first.
  [[nodiscard]] std::string render(const Terminal& terminal) const;

 private:
  [[nodiscard]] std::vector<std::size_t> widths(std::size_t limit) const;
  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

}  // namespace kvfs::cli
