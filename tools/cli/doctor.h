// The checks of `kvfs doctor`. Each looks at this machine and says what it found, and, where
// something is missing, what it costs and how to get it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kvfs::cli {

enum class Level {
  kGood,
  kNote,  // nothing to mend, but worth knowing
  kWarn,  // works, slower or with less
  kBad,   // does not work until it is mended
};
std::string_view level_name(Level level);

struct Check {
  std::string name;
  Level level = Level::kGood;
  std::string found;
  std::string remedy;  // empty when all is good
};
using Checks = std::vector<Check>;

void check_kernel(Checks& checks);  // check_kernel.cc: version, FUSE, passthrough, io_uring
void check_memory(Checks& checks, std::uint64_t dram_bytes);  // check_memory.cc; 0: not configured
void check_disk(Checks& checks, const std::string& directory);  // check_disk.cc
void check_gpu(Checks& checks);                                 // check_gpu.cc
void check_programs(Checks& checks);  // check_programs.cc: kvfsd, fusermount3

}  // namespace kvfs::cli
