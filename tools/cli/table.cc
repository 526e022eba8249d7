#include "tools/cli/table.h"

#include <algorithm>
#include <numeric>

namespace kvfs::cli {
namespace {

constexpr std::size_t kGap = 2;        // blanks between columns
constexpr std::size_t kNarrowest = 8;  // a column is not cut below this

void append_cell(std::string& line, const Cell& cell, const Column& column, std::size_t width,
                 bool last, const Terminal& terminal) {
  const std::string text = cut_text(cell.text, width);
  const std::string padding(width - text_width(text), ' ');
  if (column.align == Align::kRight) line += padding;
  line += terminal.tint(cell.tint, text);
  if (last) return;
  if (column.align == Align::kLeft) line += padding;
  line.append(kGap, ' ');
}

}  // namespace

std::vector<std::size_t> Table::widths(std::size_t limit) const {
  std::vector<std::size_t> widths;
  widths.reserve(columns_.size());
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    std::size_t width = text_width(columns_[c].title);
    for (const auto& row : rows_) {
      if (c < row.size()) width = std::max(width, text_width(row[c].text));
    }
    widths.push_back(width);
  }
  const std::size_t total =
      std::accumulate(widths.begin(), widths.end(), kGap * (widths.size() - 1));
  std::size_t excess = total > limit ? total - limit : 0;
  for (std::size_t c = 0; c < columns_.size() && excess > 0; ++c) {
    if (!columns_[c].may_be_cut || widths[c] <= kNarrowest) continue;
    const std::size_t cut = std::min(excess, widths[c] - kNarrowest);
    widths[c] -= cut;
    excess -= cut;
  }
  return widths;
}

std::string Table::render(const Terminal& terminal) const {
  const std::vector<std::size_t> widths = this->widths(terminal.columns());
  std::string out;
  const auto append_row = [&](const auto& cell_at) {
    std::string line;
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      append_cell(line, cell_at(c), columns_[c], widths[c], c + 1 == columns_.size(), terminal);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + '\n';
  };
  append_row([&](std::size_t c) { return Cell(columns_[c].title, Tint::kDim); });
  for (const auto& row : rows_) {
    append_row([&](std::size_t c) { return c < row.size() ? row[c] : Cell(""); });
  }
  return out;
}

}  // namespace kvfs::cli
