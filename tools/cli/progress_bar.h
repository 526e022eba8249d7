// A progress bar on standard error, if that is a terminal.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace kvfs::cli {

// Threads: one. Owns: the terminal's current line while it lives; clears it at the end.
// Blocks: never. Errors: none.
class ProgressBar {
 public:
  explicit ProgressBar(std::string title);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // `note` stands behind the bar. Draws a few times a second at most.
  void update(std::uint64_t done, std::uint64_t total, const std::string& note);

 private:
  std::string title_;
  bool tty_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace kvfs::cli
