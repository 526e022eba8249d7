// Candidates: who leaves next of a plain directory, as one scan found it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <queue>
#include <string>
#include <string_view>
#include <vector>

#include "fs/plain/directory.h"
#include "fs/plain/scan.h"

namespace kvfs::plain {

struct Candidate {
  std::string path;         // below the plain directory
  std::uint64_t inode = 0;  // of a file
  std::int64_t used = 0;    // of a subdirectory: its most recently used file
  bool whole = false;       // a subdirectory with all that is in it
};

// A subdirectory that was used or asked for within this time may be in use, between two of its
// files.
inline constexpr std::chrono::seconds kInUse{1};

// Threads: one.
// Owns:    the least recently used of what it was given, kMost of them.
// Blocks:  never.
// Errors:  none.
class Candidates {
 public:
  static constexpr std::size_t kMost = 65536;
  // `asked`: when somebody asked for a subdirectory, if that was within kInUse; else 0.
  Candidates(Unit unit, std::function<std::int64_t(const std::string&)> asked);

  // In the order of a scan.
  void add(const FoundFile& file);
  // From the least recently used on; it is empty then. Of subdirectories that may be in use the
  // oldest, and that only where there is nothing else.
  std::vector<Candidate> take();
  // Whether take() left some out that may go a little later.
  [[nodiscard]] bool held_back() const { return held_back_; }

 private:
  struct Younger {
    bool operator()(const Candidate& a, const Candidate& b) const { return a.used < b.used; }
  };
  void end_subdirectory();
  void offer(Candidate candidate);

  const Unit unit_;
  const std::int64_t in_use_since_;
  const std::function<std::int64_t(const std::string&)> asked_;
  bool held_back_ = false;
  std::optional<Candidate> subdirectory_;  // that the scan is in
  std::priority_queue<Candidate, std::vector<Candidate>, Younger> oldest_;
};

}  // namespace kvfs::plain
