// fio: what the disk itself gives, O_DIRECT, in the directory of the NVMe tier.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "lib/format/result.h"
#include "tools/benchmarks/row.h"

namespace kvfs::bench {

enum class Direction { kRead, kWrite };

// Threads: one. Owns: one file in `directory`, removed at the end. Blocks: while fio runs.
// Errors: kNotFound where fio is not installed, kIo with fio's own words.
class Fio {
 public:
  // Lays the file out and finds the fastest of a few settings for it (request size, queue depth).
  static Result<Fio> prepare(const std::string& directory, std::uint64_t bytes,
                             Direction direction);
  // Bytes per second of one pass over the whole file; of writes with the fdatasync at the end.
  Result<double> run() const;
  // Rounds of `load`, which moves as many bytes and says in how many seconds, each beside one run()
  // and one run_keeping(); the first does not count. GB/s.
  struct Rounds {
    std::vector<Round> plain, keeping;
  };
  Result<Rounds> run_beside(int rounds, const std::function<Result<double>()>& load) const;

 private:
  struct Setting {
    std::string request;
    int depth;
  };
  // run() with a buffer for each request, so that what was read is in memory afterwards, as in a
  // store. A few buffers that are read into again and again stay in a processor's cache, where the
  // disk is a host's that copies.
  Result<double> run_keeping() const;
  Result<double> run(const Setting& setting) const;

  std::string file_;
  std::uint64_t bytes_ = 0;
  Direction direction_ = Direction::kRead;
  Setting best_{"1m", 8};
};

}  // namespace kvfs::bench
